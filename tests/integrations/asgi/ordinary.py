"""An ordinary application, with a bit of everything that a middleware may not disturb. Run by uvicorn in tests.

python -m tests.integrations.asgi.ordinary with|without <port> <provider's url>
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from capguard import Guard
from capguard.integrations.asgi import CapguardMiddleware
from capguard.integrations.openai import cap
from tests.kit import ASK, PRICES

CALL: dict[str, Any] = {"model": "big", **ASK}
POLICY = {"prices": PRICES, "caps": [{"id": "monthly", "limit": "0.00899"}], "failure": {"deadline": 10}}
"""Room for four calls of 0.00212 at once. A machine that is busy with other tests is no store that is away."""


class Stamp(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response = await call_next(request)
        response.headers["x-stamp"] = "1"
        return response


async def echo(request: Request) -> Response:
    return Response(await request.body(), headers={"x-method": request.method, "x-query": request.url.query})


async def as_json(request: Request) -> JSONResponse:
    try:
        return JSONResponse(await request.json())
    except ValueError:
        return JSONResponse({"error": "not JSON"}, 422)


def in_pool(request: Request) -> PlainTextResponse:
    return PlainTextResponse("from the pool", headers={"set-cookie": "a=1"})


async def events(request: Request) -> StreamingResponse:
    async def ticks() -> AsyncIterator[str]:
        for tick in range(3):
            yield f"data: {tick}\n\n"
            await asyncio.sleep(0)

    return StreamingResponse(ticks(), media_type="text/event-stream")


async def fails(request: Request) -> Response:
    raise ZeroDivisionError


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text.upper())


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    yield {"started": True}


def metering(guard: Guard) -> Any:
    async def meter(request: Request) -> JSONResponse:
        found = await guard.astatus(user=request.query_params["user"])
        entries = [[entry.kind, str(entry.cost), *entry.flags] async for entry in guard.aentries()]
        return JSONResponse({"held": str(found.caps["monthly"].held), "entries": entries})

    return meter


def application(capped: bool, provider: str, guard: Guard) -> Any:
    client: Any = openai.AsyncOpenAI(base_url=provider, api_key="any", max_retries=0)
    sync: Any = openai.OpenAI(base_url=provider, api_key="any", max_retries=0)
    client, sync = (cap(client, guard), cap(sync, guard)) if capped else (client, sync)

    async def chat(request: Request) -> JSONResponse:
        return JSONResponse((await client.chat.completions.create(**CALL)).usage.total_tokens)

    async def stream(request: Request) -> StreamingResponse:
        async def words() -> AsyncIterator[str]:
            async for chunk in await client.chat.completions.create(**CALL, stream=True):
                yield f"data: {chunk.choices[0].delta.content or ''}\n\n"

        return StreamingResponse(words(), media_type="text/event-stream")

    def stream_sync(request: Request) -> StreamingResponse:
        def words() -> Iterator[str]:
            for chunk in sync.chat.completions.create(**CALL, stream=True):
                yield f"data: {chunk.choices[0].delta.content or ''}\n\n"

        return StreamingResponse(words(), media_type="text/event-stream")

    routes = [
        Route("/echo", echo, methods=["GET", "POST", "PUT", "DELETE", "PATCH"]),
        Route("/json", as_json, methods=["POST"]),
        Route("/pool", in_pool),
        Route("/events", events),
        Route("/redirect", lambda request: RedirectResponse("/pool")),
        Route("/file", lambda request: FileResponse(Path(__file__))),
        Route("/background", lambda request: PlainTextResponse("ok", background=BackgroundTask(asyncio.sleep, 0))),
        Route("/state", lambda request: JSONResponse(request.state.started)),
        Route("/fails", fails),
        Route("/chat", chat),
        Route("/stream", stream),
        Route("/stream-sync", stream_sync),
        Route("/meter", metering(guard)),
        WebSocketRoute("/ws", talk),
        Mount("/mounted", Starlette(routes=[Route("/echo", echo)])),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.add_middleware(Stamp)
    if capped:
        app.add_middleware(
            CapguardMiddleware, guard=guard, identify=lambda scope: {"user": user_of(scope)}, exclude=["/meter"]
        )
    return app


def user_of(scope: Any) -> str | None:
    return next((value.decode() for name, value in scope["headers"] if name == b"x-user"), None)


def main() -> None:
    way, port, provider, url = sys.argv[1:]
    guard = Guard(url, policy=POLICY)
    app = application(way == "with", provider, guard)
    uvicorn.run(app, port=int(port), log_level="critical", timeout_graceful_shutdown=1, date_header=False)


if __name__ == "__main__":
    main()
