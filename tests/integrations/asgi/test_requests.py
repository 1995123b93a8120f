"""What a request cost, charging a route by itself, and what is open when a request ends."""

from __future__ import annotations

import asyncio
import inspect
from decimal import Decimal
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from capguard import CapExceeded, Guard
from capguard.integrations.asgi import CapguardMiddleware, charge
from tests.kit import ASK, held, kinds, last, spent

CALL = {"model": "big", **ASK}


def serving(guard: Guard, endpoint: Any) -> TestClient:
    app = Starlette(routes=[Route("/x", endpoint, methods=["GET", "POST"])])
    return TestClient(CapguardMiddleware(app, guard, identify=lambda scope: {"user": "u1"}))


def test_the_cost_of_a_request(guard: Guard, sync_client: Any):
    """Of every call that it made, in whatever thread; the next request begins at nothing."""

    def endpoint(request: Request) -> JSONResponse:
        for _ in range(2):
            sync_client.chat.completions.create(**CALL)
        state = request.state.capguard
        return JSONResponse([str(state.cost), state.calls, state.refused is None])

    assert serving(guard, endpoint).get("/x").json() == ["0.024", 2, True]
    guard.override(user="u1", cap="monthly", limit=1)
    assert serving(guard, endpoint).get("/x").json() == ["0.024", 2, True]


def test_the_cost_for_a_layer_outside(guard: Guard):
    """Who wraps the middleware reads it when the request is over, its background tasks among it."""
    seen: list[Any] = []

    async def spend() -> None:
        async with guard.call(cost="0.005") as call:
            call.settle(cost="0.005")

    async def endpoint(request: Request) -> PlainTextResponse:
        await spend()
        return PlainTextResponse("ok", background=BackgroundTask(spend))

    inner = CapguardMiddleware(Starlette(routes=[Route("/x", endpoint)]), guard)

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)
        seen.append(scope["state"]["capguard"].cost)

    TestClient(outer).get("/x")
    assert seen == [Decimal("0.01")]


def test_a_refusal_shows_in_the_state(guard: Guard):
    async def endpoint(request: Request) -> JSONResponse:
        try:
            await guard.areserve(cost=100)
        except CapExceeded as error:
            return JSONResponse([request.state.capguard.refused is error, str(request.state.capguard.cost)])

    assert serving(guard, endpoint).get("/x").json() == [True, "0"]


# charging a route


def routes_that_charge(guard: Guard) -> dict[str, Any]:
    @charge(cost="0.02")
    async def decorated(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    @charge(cost="0.02")
    def decorated_sync(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    async def block(request: Request) -> PlainTextResponse:
        async with charge(cost="0.02"):
            return PlainTextResponse("ok")

    def block_sync(request: Request) -> PlainTextResponse:
        with charge(cost="0.02"):
            return PlainTextResponse("ok")

    async def statement(request: Request) -> PlainTextResponse:
        booked = await charge(cost="0.02")
        return PlainTextResponse(str(booked.cost))

    return {each.__name__: each for each in (decorated, decorated_sync, block, block_sync, statement)}


@pytest.mark.parametrize("way", ["decorated", "decorated_sync", "block", "block_sync", "statement"])
def test_charge(way: str, guard: Guard):
    """Booked at its cost, with nothing uncertain; refused where it does not fit."""
    http = serving(guard, routes_that_charge(guard)[way])
    assert [http.get("/x").status_code, http.get("/x").status_code] == [200, 429]
    assert (spent(guard), held(guard), last(guard).flags) == (Decimal("0.02"), 0, ("given",))


@pytest.mark.parametrize("sync", [True, False])
def test_a_route_that_fails_is_charged_nothing(sync: bool, guard: Guard):
    @charge(cost="0.02")
    async def fails(request: Request) -> None:
        raise ZeroDivisionError

    @charge(cost="0.02")
    def fails_sync(request: Request) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        serving(guard, fails_sync if sync else fails).get("/x")
    assert kinds(guard) == ["reserve", "release"]


def test_charge_beside_model_calls(guard: Guard, sync_client: Any):
    """Each is charged for itself."""

    @charge(cost="0.01")
    def endpoint(request: Request) -> JSONResponse:
        sync_client.chat.completions.create(**CALL)
        return JSONResponse(str(request.state.capguard.cost))

    assert serving(guard, endpoint).get("/x").json() == "0.012"
    assert spent(guard) == Decimal("0.022")


def test_charge_keeps_what_fastapi_looks_at(guard: Guard):
    """Arguments, types and the kind of the function."""
    app = FastAPI()
    app.add_middleware(CapguardMiddleware, guard=guard)

    @app.post("/render")
    @charge(cost="0.02")
    async def render(size: int) -> int:
        return size * 2

    assert inspect.iscoroutinefunction(render)
    assert TestClient(app).post("/render?size=4").json() == 8
    assert TestClient(app).post("/render?size=x").status_code == 422


@pytest.mark.parametrize("cost", ["-1", "NaN", True, "much"])
def test_odd_charges(cost: Any):
    """Refused where they are written."""
    with pytest.raises(ValueError, match="cost"):
        charge(cost=cost)


# what is open when the request ends


def chunks(text: str = "word ") -> Any:
    while True:
        yield text


def test_a_stream_that_was_dropped_is_booked_when_the_request_ends(guard: Guard):
    """What somebody still refers to is not collected; the end of the request is sign enough."""
    kept: list[Any] = []

    def endpoint(request: Request) -> PlainTextResponse:
        with guard.call(**CALL) as call:
            stream = call.stream(chunks())
            next(stream)
        kept.append(stream)
        return PlainTextResponse("ok")

    serving(guard, endpoint).get("/x")
    assert (kinds(guard), held(guard)) == (["reserve", "settle"], 0)
    assert last(guard).flags == ("counted", "uncertain")


async def test_a_stream_of_a_task_that_goes_on_is_left_to_it(guard: Guard):
    """It outlives its request, and is booked by what it really was."""
    done = asyncio.Event()

    async def slow() -> Any:
        for _ in range(3):
            yield "word "
            await done.wait()

    async def work() -> None:
        async with guard.call(**CALL) as call:
            async for _ in call.stream(slow()):
                pass

    tasks = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        tasks.append(asyncio.create_task(work()))
        await asyncio.sleep(0.01)
        await PlainTextResponse("ok")(scope, receive, send)

    async def nothing(*_: Any) -> Any:
        return {"type": "http.request"}

    await CapguardMiddleware(app, guard)(
        {"type": "http", "path": "/", "headers": [], "method": "GET"}, nothing, nothing
    )
    assert kinds(guard) == ["reserve"]
    done.set()
    await tasks[0]
    assert (kinds(guard), last(guard).flags) == (["reserve", "settle"], ("counted",))


def test_a_capped_stream_is_metered_by_its_body(guard: Guard, sync_client: Any):
    """An endpoint that returns the stream it was given: booked when the body has gone out."""

    def endpoint(request: Request) -> StreamingResponse:
        stream = sync_client.chat.completions.create(**CALL, stream=True)
        return StreamingResponse((chunk.choices[0].delta.content or "" for chunk in stream), media_type="text/plain")

    assert len(serving(guard, endpoint).get("/x").text.split()) == 100
    assert (spent(guard), last(guard).flags) == (Decimal("0.012"), ())
