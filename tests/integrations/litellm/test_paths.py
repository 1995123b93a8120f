"""Every function of LiteLLM, every way to call it, and everything that can become of a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import openai
import pytest

from capguard import CapExceeded, Guard
from capguard.testing.provider import Served
from tests.integrations.litellm.paths import (
    DOWNGRADE,
    PRICES,
    TARGETS,
    Path,
    every_async,
    every_path,
    every_stream,
    every_target,
)
from tests.kit import held, kinds, last, spent

POLICY: dict[str, Any] = {"prices": PRICES, "caps": [{"id": "monthly", "limit": 5}]}
TIGHT: dict[str, Any] = {"prices": PRICES, "caps": [{"id": "monthly", "limit": "0.0000001"}]}

Opened = Callable[..., Guard]


@pytest.fixture
def fake(fake: Served) -> Served:
    fake.provider.set(input_tokens=10, output_tokens=20, chunk_tokens=5)
    return fake


@every_target
@every_path
async def test_allowed(target: str, path: Path, fake: Served, opened: Opened):
    """One call reaches the provider; one entry bears what it really cost; nothing is held."""
    guard = opened(POLICY)
    reply = await path.run(TARGETS[target](guard, fake))
    assert reply
    assert fake.provider.calls == 1
    assert kinds(guard) == ["reserve", "settle"]
    assert (last(guard).cost, last(guard).flags, last(guard).user) == (Decimal(path.cost), (), "u1")
    assert held(guard) == 0


@every_target
@every_path
async def test_blocked(target: str, path: Path, fake: Served, opened: Opened):
    """The caller sees CapExceeded itself; nothing reaches the provider and nothing is booked."""
    guard = opened(TIGHT)
    with pytest.raises(CapExceeded) as refused:
        await path.run(TARGETS[target](guard, fake))
    assert (type(refused.value), refused.value.cap.id) == (CapExceeded, "monthly")
    assert fake.provider.calls == 0
    assert kinds(guard) == []


@every_target
@every_path
async def test_downgraded(target: str, path: Path, fake: Served, opened: Opened):
    """The cheaper model is called, and its price is booked."""
    down = {"id": "down", "limit": "0.0000001", "action": "downgrade"}
    guard = opened({"prices": PRICES, "caps": [down], "downgrade": DOWNGRADE})
    await path.run(TARGETS[target](guard, fake))
    assert [seen.body["model"] for seen in fake.provider.requests] == [path.cheaper]
    assert (last(guard).cost, held(guard, "down")) == (Decimal(path.cheap), 0)


@every_target
@every_path
async def test_failed(target: str, path: Path, fake: Served, opened: Opened):
    """An error status proves that nothing was billed: the hold is dropped, the error is LiteLLM's own."""
    fake.provider.set(fail_status=500)
    guard = opened(POLICY)
    with pytest.raises(openai.APIError):
        await path.run(TARGETS[target](guard, fake))
    assert 1 <= fake.provider.calls <= path.tries
    assert kinds(guard) == ["reserve", "release"]
    assert (spent(guard), held(guard)) == (0, 0)


@every_target
@every_path
async def test_dropped_connection(target: str, path: Path, fake: Served, opened: Opened):
    """LiteLLM calls it status 500, yet the provider may have billed: it is booked, and flagged."""
    fake.provider.set(disconnect_after=0)
    guard = opened(POLICY)
    try:
        await path.run(TARGETS[target](guard, fake))
    except Exception:  # noqa: BLE001 - LiteLLM and the HTTP libraries each have their own
        whole = False
    else:
        whole = True
        assert path.stream, "LiteLLM before 1.106 takes a broken stream for a whole one"
    assert 1 <= fake.provider.calls <= path.tries
    assert last(guard).kind == "settle"
    assert whole or "uncertain" in last(guard).flags
    assert (spent(guard) > 0, held(guard)) == (True, 0)


@every_target
@every_stream
@pytest.mark.parametrize("how", ["dropped", "closed"])
async def test_abandoned(target: str, path: Path, how: str, fake: Served, opened: Opened):
    """A stream that its reader leaves books its input and what was seen, flagged."""
    guard = opened(POLICY)
    stream = await path.begin(TARGETS[target](guard, fake))
    for _ in range(2):
        await anext(stream) if path.is_async else next(stream)
    if how == "closed":
        await stream.aclose() if path.is_async else stream.close()
    del stream
    assert fake.provider.calls == 1
    assert kinds(guard) == ["reserve", "settle"]
    assert set(last(guard).flags) == {"counted", "uncertain"}
    assert (0 < spent(guard) < Decimal(path.cost), held(guard)) == (True, 0)


@every_target
@every_async
async def test_cancelled(target: str, path: Path, fake: Served, opened: Opened):
    """A call that is cancelled while the provider works is booked, flagged: the provider goes on billing."""
    fake.provider.set(latency=30)
    guard = opened(POLICY)
    task = asyncio.create_task(path.run(TARGETS[target](guard, fake)))
    while not fake.provider.calls:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert kinds(guard) == ["reserve", "settle"]
    assert "uncertain" in last(guard).flags
    assert (spent(guard) > 0, held(guard)) == (True, 0)
