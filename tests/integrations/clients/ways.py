"""Every way to call a model through the SDKs, sync and async: the same table for what each must keep."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from tests.kit import MESSAGES

CHAT: dict[str, Any] = {"model": "big", "messages": MESSAGES, "max_tokens": 100}
RESPONSES: dict[str, Any] = {"model": "big", "input": "Say something.", "max_output_tokens": 100}
PROMPT: dict[str, Any] = {"model": "big", "prompt": "Say something.", "max_tokens": 100}
EMBED: dict[str, Any] = {"model": "big", "input": "Say something."}


class Anything(BaseModel):
    """A shape that the fake provider's words do not have."""

    word: str = "x"


@dataclass(frozen=True)
class Way:
    """One way: what a sync and an async client do, to the end of the reply."""

    name: str
    sync: Callable[[Any], Any]
    on_async: Callable[[Any], Awaitable[Any]]
    streams: bool = False

    def __str__(self) -> str:
        return self.name


def plain(name: str, call: Callable[[Any], Any]) -> Way:
    async def on_async(client: Any) -> Any:
        return await call(client)

    return Way(name, call, on_async)


def streamed(name: str, call: Callable[[Any], Any]) -> Way:
    async def on_async(client: Any) -> Any:
        return [chunk async for chunk in await call(client)]

    return Way(name, lambda client: list(call(client)), on_async, streams=True)


def helped(name: str, open_: Callable[[Any], Any]) -> Way:
    """The `.stream` helpers: context managers over events."""

    def sync(client: Any) -> Any:
        with open_(client) as stream:
            return list(stream)

    async def on_async(client: Any) -> Any:
        async with open_(client) as stream:
            return [event async for event in stream]

    return Way(name, sync, on_async, streams=True)


def raw(name: str, call: Callable[[Any], Any]) -> Way:
    """`with_raw_response`: the reply once parsed, a stream once read."""

    def sync(client: Any) -> Any:
        parsed = call(client).parse()
        return list(parsed) if hasattr(parsed, "__next__") else parsed

    async def on_async(client: Any) -> Any:
        parsed = (await call(client)).parse()
        parsed = await parsed if hasattr(parsed, "__await__") else parsed
        return [chunk async for chunk in parsed] if hasattr(parsed, "__anext__") else parsed

    return Way(name, sync, on_async, streams="stream" in name)


def body(name: str, call: Callable[[Any], Any], read: str) -> Way:
    """`with_streaming_response`: read by one of its readers."""

    def sync(client: Any) -> Any:
        with call(client) as response:
            found = getattr(response, read)()
            return list(found) if read.startswith("iter") else found

    async def on_async(client: Any) -> Any:
        async with call(client) as response:
            found = getattr(response, read)()
            return [piece async for piece in found] if read.startswith("iter") else await found

    return Way(name, sync, on_async, streams="stream" in name)


OPENAI = [
    plain("chat", lambda c: c.chat.completions.create(**CHAT)),
    streamed("chat stream", lambda c: c.chat.completions.create(**CHAT, stream=True)),
    helped("chat .stream", lambda c: c.chat.completions.stream(**CHAT)),
    raw("chat raw", lambda c: c.chat.completions.with_raw_response.create(**CHAT)),
    raw("chat raw stream", lambda c: c.chat.completions.with_raw_response.create(**CHAT, stream=True)),
    body("chat body", lambda c: c.chat.completions.with_streaming_response.create(**CHAT), "parse"),
    body("chat body json", lambda c: c.chat.completions.with_streaming_response.create(**CHAT), "json"),
    body(
        "chat body stream",
        lambda c: c.chat.completions.with_streaming_response.create(**CHAT, stream=True),
        "iter_lines",
    ),
    plain("completions", lambda c: c.completions.create(**PROMPT)),
    streamed("completions stream", lambda c: c.completions.create(**PROMPT, stream=True)),
    plain("responses", lambda c: c.responses.create(**RESPONSES)),
    streamed("responses stream", lambda c: c.responses.create(**RESPONSES, stream=True)),
    helped("responses .stream", lambda c: c.responses.stream(**RESPONSES)),
    raw("responses raw", lambda c: c.responses.with_raw_response.create(**RESPONSES)),
    body("responses body", lambda c: c.responses.with_streaming_response.create(**RESPONSES), "text"),
]

ANTHROPIC = [
    plain("messages", lambda c: c.messages.create(**CHAT)),
    streamed("messages stream", lambda c: c.messages.create(**CHAT, stream=True)),
    helped("messages .stream", lambda c: c.messages.stream(**CHAT)),
    raw("messages raw", lambda c: c.messages.with_raw_response.create(**CHAT)),
    raw("messages raw stream", lambda c: c.messages.with_raw_response.create(**CHAT, stream=True)),
    body("messages body", lambda c: c.messages.with_streaming_response.create(**CHAT), "parse"),
    body(
        "messages body stream",
        lambda c: c.messages.with_streaming_response.create(**CHAT, stream=True),
        "iter_bytes",
    ),
    plain("beta messages", lambda c: c.beta.messages.create(**CHAT)),
    helped("beta messages .stream", lambda c: c.beta.messages.stream(**CHAT)),
]
