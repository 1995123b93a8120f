"""Clients of both SDKs, sync and async, that point at the fake provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anthropic
import openai
import pytest

from capguard import Guard
from capguard.integrations import anthropic as for_anthropic
from capguard.integrations import openai as for_openai
from capguard.testing.provider import Served
from tests.integrations.clients.ways import ANTHROPIC, OPENAI, Way

MAKES = {
    "openai": (openai.OpenAI, openai.DefaultHttpxClient, for_openai.cap),
    "openai async": (openai.AsyncOpenAI, openai.DefaultAsyncHttpxClient, for_openai.cap),
    "anthropic": (anthropic.Anthropic, anthropic.DefaultHttpxClient, for_anthropic.cap),
    "anthropic async": (anthropic.AsyncAnthropic, anthropic.DefaultAsyncHttpxClient, for_anthropic.cap),
}

EVERY_WAY = [(kind, way) for kind in MAKES for way in (OPENAI if kind.startswith("openai") else ANTHROPIC)]

every_way = pytest.mark.parametrize(("kind", "way"), EVERY_WAY, ids=[f"{kind}: {way}" for kind, way in EVERY_WAY])
every_kind = pytest.mark.parametrize("kind", list(MAKES))

Make = Callable[..., Any]


def run(kind: str, way: Way, client: Any) -> Awaitable[Any]:
    async def running() -> Any:
        return await way.on_async(client) if kind.endswith("async") else way.sync(client)

    return running()


@pytest.fixture
async def plain(fake: Served) -> AsyncIterator[Make]:
    """`plain(kind)`: a client without caps, closed at the end."""
    async with AsyncExitStack() as stack:

        def make(kind: str, **options: Any) -> Any:
            base = fake.url if kind.startswith("openai") else fake.anthropic_url
            sdk, transport, _ = MAKES[kind]
            http = transport(verify=False)  # reading the machine's certificates takes longer than a test
            client = sdk(**{"base_url": base, "api_key": "any", "max_retries": 0, "http_client": http, **options})
            if kind.endswith("async"):
                stack.push_async_callback(client.close)
            else:
                stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def capped(plain: Make) -> Make:
    """`capped(kind, guard)`: the same under caps, for the user u1."""

    def make(
        kind: str, guard: Guard, *, who: dict[str, Any] | None = None, cap: dict[str, Any] | None = None, **options: Any
    ) -> Any:
        return MAKES[kind][2](plain(kind, **options), guard, **({"user": "u1"} if who is None else who), **(cap or {}))

    return make
