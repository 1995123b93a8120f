"""A refusal anywhere below becomes one clean answer, and an application's own answers stand."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from capguard import BackendUnavailable, CapExceeded, Guard, carry
from capguard.integrations.asgi import CapguardMiddleware
from capguard.testing.provider import Served
from tests.integrations.asgi.ordinary import application
from tests.kit import ASK, spent

CALL = {"model": "big", **ASK}


def refuse(guard: Guard) -> None:
    """A call that no cap has room for."""
    with guard.call(model="big", cost=100):
        raise AssertionError("let through")


async def arefuse(guard: Guard) -> None:
    async with guard.call(model="big", cost=100):
        raise AssertionError("let through")


class Passes(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Any:
        return await call_next(request)


def endpoints(guard: Guard) -> dict[str, Callable[..., Any]]:
    """Ordinary ways to meet a cap."""

    async def plain(request: Request) -> Any:
        await arefuse(guard)

    def in_pool(request: Request) -> Any:
        refuse(guard)

    async def in_executor(request: Request) -> Any:
        with ThreadPoolExecutor(1) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, carry(refuse), guard)

    async def in_to_thread(request: Request) -> Any:
        await asyncio.to_thread(refuse, guard)

    async def in_group(request: Request) -> Any:
        async with asyncio.TaskGroup() as group:
            group.create_task(arefuse(guard))
            group.create_task(asyncio.sleep(30))

    async def as_cause(request: Request) -> Any:
        try:
            await arefuse(guard)
        except CapExceeded as error:
            raise LookupError("the agent gave up") from error

    return {each.__name__: each for each in (plain, in_pool, in_executor, in_to_thread, in_group, as_cause)}


def starlette(guard: Guard, endpoint: Any, place: str) -> Any:
    """An application with the middleware in one of the places where people put it."""
    inner = Starlette(routes=[Route("/x", endpoint, methods=["GET", "POST"])])
    if place == "outside":
        return CapguardMiddleware(inner, guard)
    if place == "mounted":
        inner = Starlette(routes=[Mount("/", inner)])
    if place == "base inside":
        inner.add_middleware(Passes)
    inner.add_middleware(CapguardMiddleware, guard=guard)
    if place == "base outside":
        inner.add_middleware(Passes)
    return inner


@pytest.mark.parametrize("place", ["inside", "outside", "mounted", "base inside", "base outside"])
@pytest.mark.parametrize("way", ["plain", "in_pool", "in_executor", "in_to_thread", "in_group", "as_cause"])
def test_one_clean_answer(way: str, place: str, guard: Guard):
    """429 as a problem document, from task groups, thread pools and behind other middlewares."""
    app = starlette(guard, endpoints(guard)[way], place)
    answer = TestClient(app, raise_server_exceptions=True).get("/x")
    assert (answer.status_code, answer.headers["content-type"]) == (429, "application/problem+json")
    assert answer.json()["error"]["code"] == "budget_cap_exceeded"


def test_what_it_says(guard: Guard, at: str, sync_client: Any):
    """The cap by id and reset, whether and when waiting helps. No amounts: those are the seller's."""

    def chat(request: Request) -> JSONResponse:
        reply = sync_client.chat.completions.create(**CALL)
        return JSONResponse(reply.usage.total_tokens)

    http = TestClient(starlette(guard, chat, "inside"))
    assert [http.get("/x").status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = http.get("/x")
    assert refused.json() == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Budget cap exceeded",
        "status": 429,
        "detail": f"What is left of the cap 'monthly' is not enough for this call. It resets at {at}.",
        "violated-policies": ["monthly"],
        "error": {
            "code": "budget_cap_exceeded",
            "message": f"What is left of the cap 'monthly' is not enough for this call. It resets at {at}.",
            "reset_at": at,
            "cap": "monthly",
            "reason": "exhausted",
            "retryable": False,
        },
    }
    assert int(refused.headers["retry-after"]) == 16.5 * 24 * 3600
    assert "0.0" not in refused.text


@pytest.mark.parametrize(
    ("cap", "says", "never"),
    [
        ({"id": "company", "per": [], "limit": "0.001"}, {"cap": None, "reset_at": None, "reason": None}, "company"),
        ({"id": "mine", "limit": "0.001"}, {"cap": "mine", "reason": "too_big"}, "0.001"),
        ({"id": "open", "limit": "0.001", "public": True}, {"cap": "open", "limit": "0.001", "unit": "usd"}, "nothing"),
        ({"id": "team", "per": ["org"], "limit": "0.001"}, {"cap": None}, "team"),
        ({"id": "seat", "per": ["org", "user"], "limit": "0.001"}, {"cap": "seat"}, "0.001"),
    ],
)
def test_only_the_users_own_caps_are_spoken_of(cap: dict[str, Any], says: dict[str, Any], never: str, opened: Any):
    """By id and reset; amounts where the cap is public; of others' caps nothing."""
    guard = opened({"caps": [cap]})

    async def endpoint(request: Request) -> Any:
        await arefuse(guard)

    app = CapguardMiddleware(
        Starlette(routes=[Route("/x", endpoint)]), guard, identify=lambda scope: {"user": "ada", "org": "acme"}
    )
    answer = TestClient(app).get("/x")
    error = answer.json()["error"]
    assert says.items() <= error.items()
    assert never not in answer.text
    assert ("retry-after" in answer.headers) is False


def test_in_flight_says_when_to_try_again(guard: Guard):
    """Others hold the room: waiting helps."""

    async def endpoint(request: Request) -> Any:
        async with guard.call(cost="0.02"):
            await arefuse_small(guard)

    answer = TestClient(starlette(guard, endpoint, "inside")).get("/x")
    assert (answer.json()["error"]["reason"], answer.headers["retry-after"]) == ("in_flight", "1")


async def arefuse_small(guard: Guard) -> None:
    await guard.areserve(cost="0.02")


# whose answer holds


def test_the_applications_own_handler_wins(guard: Guard):
    """For CapExceeded, and for what it is a kind of."""
    for handled in (CapExceeded, RuntimeError):
        app = starlette(guard, endpoints(guard)["plain"], "inside")
        app.add_exception_handler(handled, lambda request, error: PlainTextResponse("ours", 503))
        assert (TestClient(app).get("/x").status_code, TestClient(app).get("/x").text) == (503, "ours")


def test_an_application_that_deals_with_it_answers_as_it_likes(guard: Guard):
    async def endpoint(request: Request) -> Any:
        try:
            await arefuse(guard)
        except CapExceeded as error:
            return JSONResponse({"sorry": error.cap.id})

    assert TestClient(starlette(guard, endpoint, "inside")).get("/x").json() == {"sorry": "monthly"}


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_an_unrelated_error_stays_one(place: str, guard: Guard):
    """A refusal that was dealt with, and then a bug: the bug is answered."""

    async def endpoint(request: Request) -> Any:
        try:
            await arefuse(guard)
        except CapExceeded:
            raise ZeroDivisionError("a bug")  # noqa: B904

    http = TestClient(starlette(guard, endpoint, place), raise_server_exceptions=False)
    assert http.get("/x").status_code == 500
    with pytest.raises(ZeroDivisionError):
        TestClient(starlette(guard, endpoint, place)).get("/x")


def test_a_host_that_swallows_the_exception(guard: Guard):
    """Some frameworks turn everything into a 500 of their own: with an open refusal that is a 429."""

    async def swallows(scope: Any, receive: Any, send: Any) -> None:
        try:
            await arefuse(guard)
        except CapExceeded:
            await PlainTextResponse("Internal", 500)(scope, receive, send)

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        with contextlib.suppress(CapExceeded):
            await arefuse(guard)
        async with guard.call(cost="0.001"):  # the cheaper attempt is let through
            pass
        await PlainTextResponse("Internal", 500)(scope, receive, send)

    assert TestClient(CapguardMiddleware(swallows, guard)).get("/").status_code == 429
    assert TestClient(CapguardMiddleware(fails, guard)).get("/").text == "Internal"


def test_a_long_500_is_not_kept(guard: Guard):
    """It goes out as it is."""
    body = "x" * 200_000
    app = CapguardMiddleware(PlainTextResponse(body, 500), guard)
    assert TestClient(app).get("/").text == body


def test_the_ledger_is_away(guard: Guard):
    """503, which is about no cap."""

    async def endpoint(request: Request) -> Any:
        raise BackendUnavailable("no answer")

    answer = TestClient(starlette(guard, endpoint, "inside")).get("/x")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "budget_backend_unavailable")
    assert answer.headers["retry-after"] == "1"


def test_a_refusal_after_the_answer(guard: Guard):
    """Nothing is sent twice; the error is the application's, as any error of a background task is."""

    async def endpoint(request: Request) -> Any:
        return PlainTextResponse("done", background=BackgroundTask(arefuse, guard))

    http = TestClient(starlette(guard, endpoint, "inside"), raise_server_exceptions=False)
    assert (http.get("/x").status_code, http.get("/x").text) == (200, "done")
    with pytest.raises(CapExceeded):
        TestClient(starlette(guard, endpoint, "inside")).get("/x")


# streams and sockets


@pytest.mark.parametrize("place", ["inside", "outside", "base inside", "base outside"])
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_started_stream_of_events_ends_with_one(kind: str, place: str, guard: Guard):
    """The status is gone already: an `error` event says the same, and the stream ends properly."""

    async def events() -> Any:
        yield "data: one\n\n"
        await arefuse(guard)

    def sync_events() -> Any:
        yield "data: one\n\n"
        refuse(guard)

    async def endpoint(request: Request) -> Any:
        return StreamingResponse(events() if kind == "async" else sync_events(), media_type="text/event-stream")

    answer = TestClient(starlette(guard, endpoint, place), raise_server_exceptions=False).get("/x")
    first, event = answer.text.split("\n\n")[:2]
    assert (answer.status_code, first, event.partition("\n")[0]) == (200, "data: one", "event: error")
    assert json.loads(event.partition("data: ")[2])["error"]["cap"] == "monthly"


def test_a_started_download_is_broken_off(guard: Guard):
    """There is no way to say it inside: the reader must not take it for whole."""

    async def rows() -> Any:
        yield "a,b\n"
        await arefuse(guard)

    async def endpoint(request: Request) -> Any:
        return StreamingResponse(rows(), media_type="text/csv")

    with pytest.raises(CapExceeded):
        TestClient(starlette(guard, endpoint, "inside")).get("/x")


@pytest.mark.parametrize("accepted", [True, False])
def test_a_websocket_closes_with_1008(accepted: bool, guard: Guard):
    async def talk(socket: WebSocket) -> None:
        if accepted:
            await socket.accept()
        await arefuse(guard)

    app = Starlette(routes=[WebSocketRoute("/ws", talk)])
    app.add_middleware(CapguardMiddleware, guard=guard)
    with pytest.raises(WebSocketDisconnect) as closed, TestClient(app).websocket_connect("/ws") as socket:
        socket.receive_text()
    assert (closed.value.code, closed.value.reason) == (1008, "budget_cap_exceeded")


# the door


def test_a_spent_user_is_refused_before_any_work(guard: Guard):
    """Where the paths call models, and nowhere else; sockets too. Others come in."""
    worked: list[str] = []

    async def endpoint(request: Request) -> Any:
        worked.append(request.url.path)
        return PlainTextResponse("ok")

    async def talk(socket: WebSocket) -> None:
        worked.append("socket")
        await socket.accept()
        await socket.close()

    routes = [Route(path, endpoint) for path in ("/chat", "/chat/more", "/chats", "/account")]
    app = CapguardMiddleware(
        Starlette(routes=[*routes, WebSocketRoute("/chat/ws", talk)]),
        guard,
        paths=["/chat"],
        identify=lambda scope: {"user": dict(scope["headers"])[b"x-user"].decode()},
    )
    guard.settle(guard.reserve(user="ada", cost="0.03"), cost="0.03")
    http = TestClient(app)

    def status(path: str, user: str = "ada") -> int:
        return http.get(path, headers={"x-user": user}).status_code

    assert [status("/chat"), status("/chat/more"), status("/chats"), status("/account")] == [429, 429, 200, 200]
    assert (status("/chat", "eve"), worked) == (200, ["/chats", "/account", "/chat"])
    with (
        pytest.raises(WebSocketDisconnect) as closed,
        http.websocket_connect("/chat/ws", headers={"x-user": "ada"}),
    ):
        pass
    assert closed.value.code == 1008
    assert "socket" not in worked


@pytest.mark.parametrize(
    ("policy", "comes_in"),
    [
        ({"caps": [{"id": "c", "limit": 1}]}, False),
        ({"caps": [{"id": "c", "limit": 1, "action": "warn"}]}, True),
        ({"caps": [{"id": "c", "limit": 1, "match": {"model": "gpt*"}}]}, True),
        ({"caps": [{"id": "c", "limit": 1, "match": {"feature": "vision"}}]}, True),
        ({"caps": [{"id": "c", "limit": 1, "unit": "requests"}]}, False),
        ({"caps": [{"id": "c", "limit": 1, "per": []}]}, False),
        ({"caps": [{"id": "c", "limit": 2}]}, True),
    ],
)
def test_whom_the_door_refuses(policy: Any, comes_in: bool, opened: Any):
    """Block caps that are spent and hold for any call: not those of some model or feature, nor a warning."""
    guard = opened(policy)
    guard.settle(guard.reserve(user="ada", model="gpt-4o", feature="vision", cost=1), cost=1)
    app = CapguardMiddleware(PlainTextResponse("ok"), guard, identify=lambda scope: {"user": "ada"})
    assert (TestClient(app).get("/").status_code == 200) is comes_in


def test_what_others_hold_is_no_reason(guard: Guard):
    """A hold may be given back: only what is spent is refused at the door."""
    guard.reserve(user="ada", cost="0.03")
    app = CapguardMiddleware(PlainTextResponse("ok"), guard, identify=lambda scope: {"user": "ada"})
    assert TestClient(app).get("/").status_code == 200


def test_without_precheck_everybody_comes_in(guard: Guard):
    guard.settle(guard.reserve(user="ada", cost="0.03"), cost="0.03")
    app = CapguardMiddleware(PlainTextResponse("ok"), guard, identify=lambda scope: {"user": "ada"}, precheck=False)
    assert TestClient(app).get("/").status_code == 200


def test_excluded_paths_are_left_alone(guard: Guard):
    """No identity is asked for there, and nothing is added."""

    async def health(scope: Any, receive: Any, send: Any) -> None:
        assert "capguard" not in scope.get("state", {})
        await PlainTextResponse("ok")(scope, receive, send)

    app = CapguardMiddleware(health, guard, exclude=["/health"], identify=lambda scope: 1 / 0)  # type: ignore
    assert TestClient(app).get("/health").text == "ok"


def test_anonymous_callers_share_a_meter(guard: Guard, sync_client: Any, fake: Served):
    """On the default plan; a dependency may still name the user, so the door lets them in."""

    def chat(request: Request) -> JSONResponse:
        sync_client.chat.completions.create(**CALL)
        return JSONResponse({})

    http = TestClient(starlette(guard, chat, "inside"))
    assert [http.get("/x").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert (spent(guard, user="anonymous") > 0, fake.provider.calls) == (True, 3)


def test_fastapi_with_late_authentication(guard: Guard, sync_client: Any):
    """`identify` in a sync dependency names the user of the route's calls."""
    from capguard import identify

    def user(x_user: str) -> str:
        identify(user=x_user, plan="pro")
        return x_user

    app = FastAPI()
    app.add_middleware(CapguardMiddleware, guard=guard)

    @app.get("/chat")
    def chat(request: Request, user: str = Depends(user)) -> Any:
        sync_client.chat.completions.create(**CALL)
        return {"cost": str(request.state.capguard.cost), "calls": request.state.capguard.calls, "user": user}

    assert TestClient(app).get("/chat?x_user=ada").json() == {"cost": "0.012", "calls": 1, "user": "ada"}
    assert spent(guard, user="ada") > 0


# headers of responses


@pytest.mark.parametrize("path", ["/echo?a=1", "/json", "/events", "/pool", "/redirect", "/file", "/nowhere"])
def test_nothing_but_the_documented_headers_is_added(path: str, opened: Any, fake: Served):
    """Status, body and every other header, in their order, are the application's."""
    guard = opened({"caps": [{"id": "c", "limit": 4, "public": True}]})
    plain = application(False, fake.url, guard)
    capped = CapguardMiddleware(plain, guard, identify=lambda scope: {"user": "ada"}, headers=True)
    answers = [TestClient(app).get(path, follow_redirects=False) for app in (plain, capped)]
    bare, told = (answer.headers.raw for answer in answers)
    assert (answers[1].status_code, answers[1].content) == (answers[0].status_code, answers[0].content)
    assert [each for each in told if not each[0].startswith(b"x-capguard-")] == bare
    assert {name for name, _ in told} - {name for name, _ in bare} == {
        b"x-capguard-used",
        b"x-capguard-reset",
        b"x-capguard-remaining",
    }


def test_headers_tell_what_is_used(opened: Any, at: str):
    """A fraction and the reset of the tightest cap; amounts of public ones only."""
    for public in (False, True):
        guard = opened({"caps": [{"id": "c", "limit": 4, "public": public}, {"id": "wide", "limit": 100}]})
        guard.settle(guard.reserve(user="ada", cost=1), cost=1)
        app = CapguardMiddleware(PlainTextResponse("ok"), guard, identify=lambda scope: {"user": "ada"}, headers=True)
        told = TestClient(app).get("/").headers
        assert (told["x-capguard-used"], told["x-capguard-reset"]) == ("0.2500", at)
        assert told.get("x-capguard-remaining") == ("3" if public else None)
