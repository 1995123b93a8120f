"""Streams of the SDKs: booked whichever way they end, and their usage asked for without anybody's noticing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from capguard import Guard
from capguard.testing.provider import Served
from tests.integrations.clients.conftest import Make
from tests.integrations.clients.ways import CHAT
from tests.kit import POLICY, PRICES, held, kinds, last, spent

Opened = Callable[..., Guard]


@pytest.fixture
def url() -> str:
    """The clients do not know the backend: one is enough here."""
    return "memory://"


def chat(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(**CHAT, stream=True, **options)


def messages(client: Any) -> Any:
    return client.messages.create(**CHAT, stream=True)


def test_who_asks_for_the_usage_gets_it(opened: Opened, fake: Served, capped: Make):
    """Hidden from who did not ask, there for who did."""
    client = capped("openai", opened(POLICY))
    assert list(chat(client, stream_options={"include_usage": True}))[-1].usage.completion_tokens == 50
    assert all(chunk.choices for chunk in chat(client))
    assert [seen.body["stream_options"] for seen in fake.provider.requests if seen.body] == [
        {"include_usage": True}
    ] * 2


@pytest.mark.parametrize("ending", ["close", "with", "drop", "error"])
@pytest.mark.parametrize(("kind", "ask"), [("openai", chat), ("anthropic", messages)])
def test_a_stream_that_is_given_up(
    kind: str, ask: Callable[..., Any], ending: str, opened: Opened, fake: Served, capped: Make
):
    """Booked by its input and what passed, counted and flagged, wherever its reader stopped."""
    fake.provider.set(output_tokens=100, chunk_delay=0.005)
    guard = opened(POLICY)
    stream = ask(capped(kind, guard))
    if ending == "with":
        with stream:
            read(stream)
    elif ending == "error":
        with pytest.raises(RuntimeError, match="the reader's"):
            fail_in(stream)
    else:
        read(stream)
        stream.close() if ending == "close" else None
    del stream
    gc.collect()
    guard.flush()
    assert (kinds(guard), last(guard).flags) == (["reserve", "settle"], ("counted", "uncertain"))
    assert Decimal("0.0002") < last(guard).cost < Decimal("0.002")
    assert held(guard) == 0


def fail_in(stream: Any) -> None:
    with stream:
        read(stream)
        raise RuntimeError("the reader's own")


def read(stream: Any) -> None:
    for _ in range(4):
        next(stream)


@pytest.mark.parametrize(("kind", "ask"), [("openai async", chat), ("anthropic async", messages)])
async def test_an_async_stream_whose_task_is_cancelled(
    kind: str, ask: Callable[..., Any], opened: Opened, fake: Served, capped: Make
):
    """Booked before the cancellation has gone on, with nobody waiting for a garbage collector."""
    fake.provider.set(output_tokens=100, chunk_delay=0.05)
    guard = opened(POLICY)
    client = capped(kind, guard)

    async def reader() -> None:
        async for _ in await ask(client):
            pass

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader(), 0.3)
    assert (kinds(guard), last(guard).flags) == (["reserve", "settle"], ("counted", "uncertain"))


@pytest.mark.parametrize(("kind", "ask"), [("openai", chat), ("anthropic", messages)])
def test_a_connection_that_breaks(kind: str, ask: Callable[..., Any], opened: Opened, fake: Served, capped: Make):
    """The reader gets the SDK's error, the ledger what had passed."""
    fake.provider.set(output_tokens=100, disconnect_after=3)
    guard = opened(POLICY)
    with pytest.raises(Exception, match=r"peer closed|incomplete|[Cc]onnection"):
        list(ask(capped(kind, guard)))
    assert (kinds(guard), last(guard).flags) == (["reserve", "settle"], ("counted", "uncertain"))


def test_a_stream_that_nobody_reads(opened: Opened, fake: Served, capped: Make):
    """Its input was sent and is booked."""
    guard = opened(POLICY)
    chat(capped("openai", guard)).close()
    assert (kinds(guard), held(guard)) == (["reserve", "settle"], 0)
    assert 0 < last(guard).cost < Decimal("0.001")


def test_raw_bytes_of_a_stream(opened: Opened, fake: Served, capped: Make):
    """They may be compressed, so that nothing can be read from them: what was expected is booked."""
    guard = opened(POLICY)
    with capped("openai", guard).chat.completions.with_streaming_response.create(**CHAT, stream=True) as response:
        assert b"[DONE]" in b"".join(response.http_response.iter_raw())
    assert (kinds(guard), last(guard).flags) == (["reserve", "settle"], ("uncertain",))


@pytest.mark.parametrize(
    ("rule", "passes", "flags"), [("finish", 400, ()), ("cut", 300, ("counted", "cut", "uncertain"))]
)
def test_a_stream_that_outgrows_its_hold(
    rule: str, passes: int, flags: tuple[str, ...], opened: Opened, fake: Served, capped: Make
):
    """The provider goes on beyond the limit of the call. `finish` books the overrun, `cut` ends the stream near it."""
    fake.provider.set(input_tokens=9, output_tokens=400, chunk_tokens=5)
    guard = opened({"prices": PRICES, "caps": [{"id": "monthly", "limit": "0.003"}]})  # 100 tokens held, room for 145
    stream = chat(capped("openai", guard, cap={"on_stream_exceeded": rule}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert len(text.split()) <= passes
    assert last(guard).flags == flags
    assert spent(guard) > Decimal("0.002")
    assert (spent(guard) > Decimal("0.008")) is (rule == "finish")
