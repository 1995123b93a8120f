"""While a stream passes, its hold grows and lives as long as it needs, and it ends where it may not have more."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from decimal import Decimal
from typing import Any

import pytest

from capguard import Guard
from capguard.testing import ManualClock
from tests.kit import ASK, MESSAGES, PRICES, held, kinds, last, spent

Opened = Callable[..., Guard]

TOKEN = " word"  # one token, 20 micro-dollars
UNBOUNDED = {"user": "u1", "model": "gpt-4o", "messages": MESSAGES}
ROOM = {
    "prices": {"gpt-4o": PRICES["big"]},
    "caps": [{"id": "monthly", "limit": 5}],
    "estimate": {"output": 1000},
}  # 0.02 held
TIGHT = {**ROOM, "caps": [{"id": "monthly", "limit": "0.021"}]}


async def passed(guard: Guard, tokens: int, way: str, **options: Any) -> int:
    """Stream so many tokens, fifty in a chunk, and tell how many the reader got."""
    chunks = [TOKEN * 50] * (tokens // 50)
    call = guard.call(**UNBOUNDED)
    if way == "sync":
        with call:
            return 50 * len(list(call.stream(chunks, **options)))
    async with call:
        return 50 * len([chunk async for chunk in call.stream(ticking(chunks), **options)])


async def ticking(chunks: Iterable[Any]) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk


both = pytest.mark.parametrize("way", ["sync", "async"])


@both
async def test_a_stream_that_stays_within_its_hold_asks_for_nothing(opened: Opened, way: str):
    guard = opened(ROOM)
    assert await passed(guard, 750, way) == 750
    assert kinds(guard) == ["reserve", "settle"]


@both
async def test_a_stream_asks_for_more_before_its_hold_runs_out(opened: Opened, way: str):
    """Others see what it will cost while it passes, not only afterwards."""
    guard = opened(ROOM)
    assert await passed(guard, 3000, way) == 3000
    assert kinds(guard).count("extend") >= 3
    assert Decimal("0.06") <= spent(guard) < Decimal("0.061")
    assert (held(guard), last(guard).flags) == (0, ("counted",))
    assert last(guard).body["overrun"] == {}


@both
async def test_one_that_may_not_have_more_finishes_and_is_booked_in_full(opened: Opened, way: str):
    """What went beyond the limit is that meter's overrun; the reader notices nothing."""
    guard = opened(TIGHT)
    assert await passed(guard, 3000, way) == 3000
    assert spent(guard) >= Decimal("0.06")
    assert guard.status(user="u1").caps["monthly"].overrun > Decimal("0.039")


@both
async def test_one_that_may_not_have_more_is_cut(opened: Opened, way: str, caplog: pytest.LogCaptureFixture):
    """It ends once its hold is used up, at the latest a tenth later, and its entry and the log say so."""
    guard = opened(TIGHT)
    with caplog.at_level(logging.WARNING, "capguard"):
        got = await passed(guard, 3000, way, on_exceeded="cut")
    assert 1000 <= got <= 1100
    assert last(guard).flags == ("counted", "cut", "uncertain")
    assert "has used up its hold" in caplog.text


def test_a_cut_stream_closes_its_source(opened: Opened):
    """The provider stops generating only when its connection is given back."""
    closed: list[bool] = []

    def source():
        try:
            while True:
                yield TOKEN * 50
        finally:
            closed.append(True)

    with opened(TIGHT).call(**UNBOUNDED) as call:
        list(call.stream(source(), on_exceeded="cut"))
    assert closed == [True]


def test_a_call_with_a_limit_of_its_own_is_asked_for_no_more_than_it_holds(opened: Opened):
    """A reply of exactly `max_tokens` is what was held: nothing is taken from others for it."""
    guard = opened(ROOM)
    with guard.call(user="u1", model="gpt-4o", **ASK) as call:
        list(call.stream([TOKEN * 10] * 10))
    assert kinds(guard) == ["reserve", "settle"]


@both
async def test_a_stream_that_lasts_keeps_its_hold(opened: Opened, clock: ManualClock, way: str):
    """Chunks are heartbeats: ten minutes of them, and the hold of two has not expired."""
    guard = opened(ROOM)
    call = guard.call(**UNBOUNDED)
    beats = []

    def source():
        for _ in range(20):
            clock.advance(seconds=30)
            yield TOKEN
            beats.append(guard.status(user="u1").caps["monthly"].held)

    if way == "sync":
        with call:
            list(call.stream(source()))
    else:
        async with call:
            [chunk async for chunk in call.stream(ticking(source()))]
    assert set(beats) == {beats[0]}
    assert beats[0] > 0
    assert "expire" not in kinds(guard)
    assert not last(guard).body["facts"].get("late")


def test_a_stream_longer_than_heartbeats_carry_is_settled_late(opened: Opened, clock: ManualClock):
    """After an hour the hold may expire; what streams on is booked all the same, once, and said to be late."""
    guard = opened(ROOM)

    def source():
        for _ in range(200):
            clock.advance(seconds=30)
            yield TOKEN

    with guard.call(**UNBOUNDED) as call:
        list(call.stream(source()))
    guard.status(user="u1")
    assert "late" in last(guard).flags
    assert spent(guard) == last(guard).cost
