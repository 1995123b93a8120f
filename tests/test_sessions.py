"""Sessions and agent runs: a lifetime cap with `idle` counts per run, and a run ends when nobody uses it (rule 16)."""

from __future__ import annotations

from decimal import Decimal

import pytest

from capguard import CapExceeded, Guard
from capguard.testing import ManualClock

SESSION = {"id": "run", "per": ["session"], "limit": 1, "window": "lifetime", "idle": "30m"}


@pytest.fixture(params=["memory://", "sqlite:///{}/ledger.db?timeout=30"])
def guard(request: pytest.FixtureRequest, tmp_path):
    with Guard(request.param.format(tmp_path), policy={"caps": [SESSION]}, clock=ManualClock()) as guard:
        yield guard


def spend(guard: Guard, cost: str, session: str = "s1") -> None:
    with guard.call(session=session, cost=cost) as call:
        call.settle(cost=cost)


def test_a_session_that_was_left_alone_starts_afresh(guard: Guard):
    """0.8 of 1 spent: after half an hour without a call the next one has the whole limit again."""
    spend(guard, "0.8")
    with pytest.raises(CapExceeded) as refused:
        spend(guard, "0.3")
    assert refused.value.cap.resets_at is not None
    assert refused.value.retry_after == 1800
    guard._clock.advance(minutes=30)
    spend(guard, "1")
    assert guard.status(session="s1").caps["run"].settled == Decimal(1)
    assert guard.verify()


def test_a_session_that_is_used_goes_on(guard: Guard):
    """A call every 20 minutes for two hours is one run."""
    for _ in range(5):
        spend(guard, "0.2")
        guard._clock.advance(minutes=20)
    with pytest.raises(CapExceeded):
        spend(guard, "0.1")
    spend(guard, "1", session="s2")


def test_what_is_long_over_leaves_the_store(guard: Guard):
    """Two days after their end, sessions take no room any more, and the books are right."""
    for number in range(20):
        spend(guard, "0.1", session=f"s{number}")
    assert guard.verify().meters == 20
    guard._clock.advance(hours=49)
    spend(guard, "0.1", session="new")
    verified = guard.verify()
    assert (verified.meters, verified.entries, bool(verified)) == (1, 42, True)
