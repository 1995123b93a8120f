"""Whose request it is: each field from the first that knows it, and nothing that a client merely says."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from capguard import Guard, Identity, identify
from capguard.integrations.asgi import CapguardMiddleware


async def show(request: Request) -> JSONResponse:
    return JSONResponse(request.state.capguard.identity.to_dict())


async def log_in(request: Request) -> JSONResponse:
    request.session.update(user_id=7, plan="pro")
    return JSONResponse({})


def app(guard: Guard, *, outside: list[Middleware] | None = None, **options: Any) -> TestClient:
    middleware = [*(outside or []), Middleware(CapguardMiddleware, guard=guard, **options)]
    routes = [Route("/", show), Route("/login", log_in, methods=["POST"])]
    return TestClient(Starlette(routes=routes, middleware=middleware), client=("10.1.2.3", 5))


def who(client: TestClient, **options: Any) -> Any:
    return client.get("/", **options).json()


async def later(scope: Any) -> dict[str, str]:
    return {"user": "ada", "plan": "pro"}


@pytest.mark.parametrize(
    ("identified", "found"),
    [
        (lambda scope: Identity(user="ada", plan="pro"), {"user": "ada", "plan": "pro"}),
        (lambda scope: {"user": "ada", "tags": {"env": "test"}}, {"user": "ada", "tag:env": "test"}),
        (later, {"user": "ada", "plan": "pro"}),
        (lambda scope: None, {"user": "anonymous"}),
        (lambda scope: {"org": "acme"}, {"user": "anonymous", "org": "acme"}),
    ],
)
def test_identify(identified: Any, found: dict[str, str], guard: Guard):
    """An Identity, a mapping, None; sync and async."""
    assert who(app(guard, identify=identified)) == found


class Basic(AuthenticationBackend):
    async def authenticate(self, conn: Any) -> Any:
        if "authorization" not in conn.headers:
            return None
        name = base64.b64decode(conn.headers["authorization"].split()[1]).decode().partition(":")[0]
        return AuthCredentials(["authenticated", f"{name}s_right"]), SimpleUser(name)


AUTH = Middleware(AuthenticationMiddleware, backend=Basic())


@pytest.mark.parametrize(
    ("plans", "plan"),
    [
        (None, None),
        ({"adas_right": "pro"}, "pro"),
        ({"others": "pro"}, None),
        (lambda user: "pro" if user == "ada" else None, "pro"),
    ],
)
def test_the_authenticated_user(plans: Any, plan: str | None, guard: Guard):
    """Starlette's AuthenticationMiddleware, with a plan by permission or by name; else nobody."""
    client = app(guard, outside=[AUTH], plans=plans)
    assert who(client, auth=("ada", "x")) == {"user": "ada"} | ({"plan": plan} if plan else {})
    assert who(client) == {"user": "anonymous"}


def test_the_session(guard: Guard):
    """Signed by the server: a name or a number, and the plan."""
    client = app(guard, outside=[Middleware(SessionMiddleware, secret_key="s")])
    client.post("/login")
    assert who(client) == {"user": "7", "plan": "pro"}


class Account:
    id = 42


class PutsState:
    def __init__(self, app: Any, **state: Any):
        self.app, self.state = app, state

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {}).update(self.state)
        await self.app(scope, receive, send)


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ({"user": "ada", "plan": "pro"}, {"user": "ada", "plan": "pro"}),
        ({"user_id": 7, "org": "acme"}, {"user": "7", "org": "acme"}),
        ({"user": Account()}, {"user": "42"}),
        ({"user": {"id": "eve"}}, {"user": "eve"}),
        ({"user": None}, {"user": "anonymous"}),
        ({"user": object()}, {"user": "anonymous"}),
    ],
)
def test_the_state(state: dict[str, Any], found: dict[str, str], guard: Guard):
    """What a middleware of the application put there: a text, a number, or an object that has an id."""
    assert who(app(guard, outside=[Middleware(PutsState, **state)])) == found


def test_identify_wins_field_by_field(guard: Guard):
    """Each field from the first that names it."""
    client = app(guard, outside=[Middleware(PutsState, user="eve", plan="pro")], identify=lambda scope: {"user": "ada"})
    assert who(client) == {"user": "ada", "plan": "pro"}


def test_a_dependency_completes_it(guard: Guard):
    """Who authenticates late, in a worker thread even, names the user of the whole request."""

    def endpoint(request: Request) -> JSONResponse:
        identify(user="late", plan="pro")
        return JSONResponse(request.state.capguard.identity.to_dict())

    inner = Starlette(routes=[Route("/", endpoint)])
    client = TestClient(CapguardMiddleware(inner, guard))
    assert client.get("/").json() == {"user": "late", "plan": "pro"}


# headers

TRUSTED = {"trusted_headers": {"user": "X-User", "plan": "X-Plan"}, "trusted_proxies": ["10.0.0.0/8"]}
ELSEWHERE = {**TRUSTED, "trusted_proxies": ["192.168.0.1", "::1"]}


@pytest.mark.parametrize(
    ("options", "headers", "found"),
    [
        (TRUSTED, [("x-user", "ada"), ("X-PLAN", "pro")], {"user": "ada", "plan": "pro"}),
        (TRUSTED, [], {"user": "anonymous"}),
        (TRUSTED, [("x-plan", "pro")], {"user": "anonymous", "plan": "pro"}),
        (ELSEWHERE, [("x-user", "ada"), ("x-plan", "pro")], {"user": "anonymous"}),
        ({}, [("x-user", "ada"), ("x-plan", "pro")], {"user": "anonymous"}),
    ],
)
def test_headers(options: Any, headers: Any, found: dict[str, str], guard: Guard):
    """Believed from a trusted proxy only; from anybody else they are as if they were not there, the plan above all."""
    assert who(app(guard, **options), headers=headers) == found


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ([("x-user", "ada"), ("x-user", "eve")], "header x-user: 2 values; allowed: one"),
        ([("x-user", "ada"), ("X-User", "ada")], "header x-user: 2 values; allowed: one"),
        ([("x-user", "")], "user: 0 characters; allowed: 1 to 256"),
        ([("x-user", "a" * 257)], "user: 257 characters; allowed: 1 to 256"),
        ([("x-user", b"a\xe9")], "header x-user: allowed: ASCII characters"),
        ([("x-user", "a\tb")], "U+0009 is refused"),
    ],
)
def test_odd_headers(headers: Any, says: str, guard: Guard):
    """A clear 400, nothing charged to anybody."""
    answer = app(guard, **TRUSTED).get("/", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.json()["error"]["code"] == "identity_refused"
    assert says in answer.json()["detail"]


@pytest.mark.parametrize(
    ("identified", "status", "says"),
    [
        (lambda scope: {"user": "x" * 2**20}, 400, "user: 1048576 characters; allowed: 1 to 256"),
        (lambda scope: {"usr": "ada"}, 400, "unknown field 'usr'"),
        (lambda scope: {"user": "a\x00b"}, 400, "U+0000 is refused"),
    ],
)
def test_odd_identities(identified: Any, status: int, says: str, guard: Guard):
    """A clear 400 that repeats nothing of a megabyte."""
    answer = app(guard, identify=identified).get("/")
    assert answer.status_code == status
    assert says in answer.json()["detail"]
    assert len(answer.content) < 1000


def test_identify_may_refuse(guard: Guard):
    """An HTTPException of the application's is the answer that it says; another error is the application's."""

    def refuse(scope: Any) -> None:
        raise HTTPException(401, "no token")

    answer = app(guard, identify=refuse).get("/")
    assert (answer.status_code, answer.json()["detail"]) == (401, "no token")
    with pytest.raises(ZeroDivisionError):
        app(guard, identify=lambda scope: 1 / 0).get("/")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"trusted_headers": {"user": "x-user"}}, "need trusted_proxies"),
        ({"trusted_headers": {"usr": "x-user"}, "trusted_proxies": ["::1"]}, "unknown field usr"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "host bits set; allowed: addresses and networks"),
        ({"trusted_proxies": "10.0.0.1"}, "is one text; allowed: a list"),
        ({"paths": "/chat"}, "is one text; allowed: a list"),
        ({"exclude": ["health"]}, "allowed: paths that begin with /"),
        ({"guard": "sqlite://"}, "allowed: a Guard"),
    ],
)
def test_odd_options(options: dict[str, Any], says: str):
    """Refused when the application is made."""
    with pytest.raises((ValueError, TypeError), match=says):
        CapguardMiddleware(app, **options)  # type: ignore[arg-type]
