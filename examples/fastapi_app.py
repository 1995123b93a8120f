"""A chat product with two plans on FastAPI: tokens, a streaming chat, and a page that shows users their meter.

    uvicorn examples.fastapi_app:app          # against the provider that OPENAI_API_KEY belongs to
    python examples/fastapi_app.py            # against a fake provider on loopback, with a few requests of its own

It needs fastapi: pip install fastapi.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import HTMLResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.testclient import TestClient
from openai import AsyncOpenAI
from pydantic import BaseModel

from capguard import Guard, identify
from capguard.integrations.asgi import CapguardMiddleware
from capguard.integrations.openai import cap
from capguard.testing.provider import Settings, serve

TOKENS = {"t-ada": ("ada", "pro"), "t-bob": ("bob", "free")}
POLICY = {
    "default_plan": "free",
    "plans": {
        "free": {"caps": [{"id": "monthly", "limit": 0.006, "public": True}]},
        "pro": {"price": 20, "caps": [{"id": "monthly", "limit": 5}]},
    },
}

PAGE = """<!doctype html><title>Your budget</title>
<h1>{user}, {plan}</h1><p>{used:.0%} used <meter value="{used:.4f}"></meter> until {resets}</p>"""


class Question(BaseModel):
    """What the chat is asked."""

    text: str


def user(bearer: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    """Who asks. A dependency may name the caller: everything in this request is on their account."""
    if bearer.credentials not in TOKENS:
        raise HTTPException(401, "unknown token")
    name, plan = TOKENS[bearer.credentials]
    identify(user=name, plan=plan)
    return name


User = Annotated[str, Depends(user)]


def application(guard: Guard, client: AsyncOpenAI) -> FastAPI:
    """The application of this guard and this client."""
    capped = cap(client, guard)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(CapguardMiddleware, guard=guard)

    @app.post("/chat")
    async def chat(question: Question, _: User) -> StreamingResponse:
        messages: list[Any] = [{"role": "user", "content": question.text}]
        stream = await capped.chat.completions.create(model="gpt-4o", messages=messages, max_tokens=300, stream=True)

        async def events() -> AsyncIterator[str]:
            async with stream:  # a reader who goes away closes it, and what was seen is booked
                async for chunk in stream:
                    yield f"data: {chunk.choices[0].delta.content or ''}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/meter")
    async def meter(user: User) -> HTMLResponse:
        found = await guard.astatus()
        cap = found.caps["monthly"]
        resets = f"{cap.resets_at:%d %B}" if cap.resets_at else "further notice"
        return HTMLResponse(PAGE.format(user=user, plan=found.plan, used=cap.fraction, resets=resets))

    return app


def main() -> None:
    """Chat until bob's plan is spent, and look at the meters."""
    with serve(Settings(input_tokens=200, output_tokens=250)) as fake, Guard("memory://", policy=POLICY) as guard:
        app = application(guard, AsyncOpenAI(base_url=fake.url, api_key="any"))
        with TestClient(app) as http:
            for token in ("t-bob", "t-bob", "t-bob", "t-ada", "t-eve"):
                headers = {"authorization": f"Bearer {token}"}
                answer = http.post("/chat", json={"text": "Why is the sky blue?"}, headers=headers)
                said = answer.text.count("data: ") if answer.is_success else answer.json()["detail"].partition(".")[0]
                print(f"{token}: {answer.status_code} {said}")
            page = http.get("/meter", headers={"authorization": "Bearer t-bob"}).text
            print(page.partition("<p>")[2].partition(" <meter")[0])


if __name__ == "__main__":
    main()
elif os.environ.get("OPENAI_API_KEY"):
    app = application(Guard("sqlite:///capguard.db", policy=POLICY), AsyncOpenAI())
