"""The table: every path through LangChain, with every outcome."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from capguard import CapExceeded
from capguard.integrations.langchain import capped_model
from tests.integrations.langchain.paths import (
    CHEAP,
    COST,
    NO_BIG,
    blocked,
    every_async,
    every_path,
    every_stream,
    every_wrapper,
    nothing_held,
)
from tests.kit import kinds, last, spent


@every_path
async def test_allowed(path, to_fake, guard, config, fake):
    """Every call is held before and booked after, at what the provider reports, else by its text."""
    await path.run(to_fake, config)
    assert fake.provider.calls == path.calls
    assert await nothing_held(guard)
    assert kinds(guard).count("reserve") == kinds(guard).count("settle")
    flags = {flag for entry in guard.entries() for flag in entry.flags}
    if path.reports:
        assert (spent(guard), flags) == (path.calls * Decimal(COST), set())
    else:
        assert spent(guard) > 0
        assert flags == {"counted"}


@every_path
async def test_blocked(path, to_fake, guard, config, fake):
    """A refused call never reaches the provider, on no path, and its caller sees the cap."""
    with blocked(guard):
        with pytest.raises(CapExceeded) as refused:
            await path.run(to_fake, config)
        assert refused.value.cap.id == "monthly"
    assert fake.provider.calls == 0
    assert await nothing_held(guard)
    assert "reserve" not in kinds(guard)


@every_path
async def test_provider_error(path, to_fake, guard, config, fake):
    """A call that the provider refuses costs nothing, and each try is held by itself."""
    fake.provider.set(fail_status=400)
    with pytest.raises(Exception, match="fake provider was told to fail"):
        await path.run(to_fake, config)
    assert path.tries <= fake.provider.calls <= path.calls * path.tries
    assert await nothing_held(guard)
    assert spent(guard) == 0


@every_wrapper
async def test_downgraded(path, to_fake, guard, config, fake):
    """Around a capped model, whatever is built of it goes on with the cheaper one, at its price."""

    def make(**options):
        return capped_model(to_fake(**options), guard, cheaper="small", caps=[NO_BIG])

    await path.run(make, config)
    assert {seen.body["model"] for seen in fake.provider.requests} == {"small"}
    assert (fake.provider.calls, spent(guard)) == (path.calls, path.calls * Decimal(CHEAP))
    assert await nothing_held(guard)


@every_stream
async def test_abandoned(path, to_fake, guard, config, fake):
    """A stream whose reader stops is booked once, by its input and what passed; where a task or a thread of LangChain's
    reads on behind it, by the whole."""
    fake.provider.set(output_tokens=60, chunk_delay=0.005)
    await path.begin(to_fake, config)
    assert await nothing_held(guard)
    assert [kind for kind in kinds(guard) if kind != "extend"] == ["reserve", "settle"]
    entry = last(guard)
    assert entry.cost > 0
    if path.reads_no_further:
        assert {"counted", "uncertain"} <= set(entry.flags)


@every_async
async def test_cancelled(path, to_fake, guard, config, fake):
    """A call that is cancelled on its way is booked at what was expected."""
    fake.provider.set(latency=30)
    task = asyncio.create_task(path.run(to_fake, config))
    while fake.provider.calls < path.calls:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    fake.provider.set(latency=0)
    assert await nothing_held(guard)
    ends = [entry for entry in guard.entries() if entry.kind == "settle"]
    assert len(ends) == kinds(guard).count("reserve") >= path.calls
    assert all(entry.cost > 0 and "uncertain" in entry.flags for entry in ends)
