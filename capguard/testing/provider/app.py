"""The HTTP side of the fake provider: nine endpoints that answer, three that steer."""

from __future__ import annotations

import json
from asyncio import sleep
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from capguard.testing.provider.anthropic_messages import MESSAGES
from capguard.testing.provider.dialect import Dialect, encode
from capguard.testing.provider.openai_audio import audio_routes
from capguard.testing.provider.openai_chat import CHAT
from capguard.testing.provider.openai_completions import COMPLETIONS
from capguard.testing.provider.openai_embeddings import EMBEDDINGS
from capguard.testing.provider.openai_images import IMAGES
from capguard.testing.provider.openai_responses import RESPONSES
from capguard.testing.provider.reply import Dropped, Json, reply_to
from capguard.testing.provider.settings import Settings
from capguard.testing.provider.state import Provider

Endpoint = Callable[[Request], Awaitable[Response]]


def provider_app(settings: Settings | None = None) -> Starlette:
    """A fake provider as an ASGI application; its state is `app.state.provider`, a `Provider`."""
    provider = Provider(settings)
    dialects = (CHAT, COMPLETIONS, EMBEDDINGS, IMAGES, RESPONSES, MESSAGES)
    routes = [Route(dialect.path, _answering(provider, dialect), methods=["POST"]) for dialect in dialects]
    app = Starlette(routes=[*routes, *audio_routes(provider), *_steering(provider)])
    app.state.provider = provider
    return app


def _answering(provider: Provider, dialect: Dialect) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        body = _object_of(await request.body())
        provider.arrived(dialect.path, body)
        try:
            settings = provider.settings.for_call(request.headers)
            status = provider.failure(settings)
            await sleep(settings.latency)
            if status is not None:
                return _json(dialect.error(status, f"the fake provider was told to fail with {status}"), status)
            return _reply(dialect, body, settings)
        except ValueError as refused:
            return _json(dialect.error(400, str(refused)), 400)

    return endpoint


def _reply(dialect: Dialect, body: Json | None, settings: Settings) -> Response:
    if body is None:
        raise ValueError("body: not a JSON object")
    dialect.check(body)
    reply = reply_to(body, settings, dialect.limit(body))
    if body.get("stream") and dialect.events is not None:
        return _Pieces(dialect.events(reply), "text/event-stream", settings.chunk_delay)
    plain = dialect.plain(reply)
    if settings.disconnect_after == 0:
        return _Pieces(_dropped(), "application/json")
    return _json(plain)


def _steering(provider: Provider) -> list[Route]:
    async def calls(_: Request) -> Response:
        return _json(provider.counts())

    async def change(request: Request) -> Response:
        changes = _object_of(await request.body())
        if changes is None:
            return _json({"error": {"message": "body: not a JSON object"}}, 400)
        try:
            return _json(asdict(provider.set(**changes)))
        except ValueError as refused:
            return _json({"error": {"message": str(refused)}}, 400)

    async def reset(_: Request) -> Response:
        provider.reset()
        return _json(provider.counts())

    return [
        Route("/calls", calls, methods=["GET"]),
        Route("/settings", change, methods=["POST"]),
        Route("/reset", reset, methods=["POST"]),
    ]


class _Pieces(Response):
    """A body sent piece by piece. Where it is dropped the response never ends, so the server closes the connection."""

    def __init__(self, pieces: Iterator[bytes], media_type: str, delay: float = 0.0):
        super().__init__(media_type=media_type)
        del self.headers["content-length"]
        self._pieces = pieces
        self._delay = delay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            for number, piece in enumerate(self._pieces):
                await sleep(self._delay if number else 0)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except Dropped:
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _dropped() -> Iterator[bytes]:
    yield b"{"
    raise Dropped


def _object_of(raw: bytes) -> Json | None:
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _json(value: Any, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")
