"""Caps for a Starlette application: one middleware, and every route is held to the plan of whoever is logged in.

uvicorn examples.starlette_app:app        # against the provider that OPENAI_API_KEY belongs to
python examples/starlette_app.py          # against a fake provider on loopback, with a few requests of its own
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from capguard import Guard
from capguard.integrations.asgi import CapguardMiddleware, charge
from capguard.integrations.openai import cap
from capguard.testing.provider import Settings, serve

PLANS = {"ada": "pro", "bob": "free"}
POLICY = {
    "default_plan": "free",
    "plans": {
        "free": {"caps": [{"id": "daily", "limit": 0.006, "window": "daily"}]},
        "pro": {"caps": [{"id": "daily", "limit": 1, "window": "daily"}]},
    },
}


class Token(AuthenticationBackend):
    """A bearer token that is the user's name: do this properly."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        name = conn.headers.get("authorization", "").removeprefix("Bearer ")
        return (AuthCredentials(["authenticated"]), SimpleUser(name)) if name in PLANS else None


async def chat(request: Request) -> Response:
    """A model is called; who pays, and what it cost, is the middleware's business."""
    client: AsyncOpenAI = request.app.state.client
    messages: list[Any] = [{"role": "user", "content": (await request.body()).decode()}]
    reply = await client.chat.completions.create(model="gpt-4o", messages=messages, max_tokens=300)
    words = len((reply.choices[0].message.content or "").split())
    return JSONResponse({"words": words, "cost": str(request.state.capguard.cost)})


@charge(cost="0.002")
async def render(_: Request) -> Response:
    """No model, but it costs: held before the route runs, booked when it has answered."""
    return JSONResponse({"rendered": True})


def application(guard: Guard, client: AsyncOpenAI) -> Starlette:
    """The application of this guard and this client."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    app = Starlette(
        lifespan=lifespan,
        routes=[Route("/chat", chat, methods=["POST"]), Route("/render", render, methods=["POST"])],
        middleware=[
            Middleware(AuthenticationMiddleware, backend=Token()),
            Middleware(CapguardMiddleware, guard=guard, plans=PLANS.get, paths=["/chat", "/render"]),
        ],
    )
    app.state.client = cap(client, guard)
    return app


def main() -> None:
    """Ask until bob's plan is spent; ada has more room."""
    with serve(Settings(input_tokens=200, output_tokens=250)) as fake, Guard("memory://", policy=POLICY) as guard:
        app = application(guard, AsyncOpenAI(base_url=fake.url, api_key="any"))
        with TestClient(app) as http:
            for user, path in (("bob", "/chat"), ("bob", "/render"), ("bob", "/chat"), ("ada", "/chat")):
                answer = http.post(path, content="Hello?", headers={"authorization": f"Bearer {user}"})
                said = answer.json().get("detail") or answer.json()
                print(f"{user} {path}: {answer.status_code} {str(said).partition('.')[0] if answer.is_error else said}")


if __name__ == "__main__":
    main()
elif os.environ.get("OPENAI_API_KEY"):
    app = application(Guard("sqlite:///capguard.db", policy=POLICY), AsyncOpenAI())
