"""What capguard ships for the tests of applications: guarded(), the fixture, the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from capguard import CapExceeded, PolicyError, capped
from capguard.default import default_guard
from capguard.testing import GuardedGuard, ManualClock, guarded
from capguard.testing.fixtures import capguarded  # noqa: F401 - pytest finds it by itself where capguard is installed

POLICY = {"caps": [{"id": "monthly", "limit": 5}, {"id": "notice", "limit": 1, "action": "warn"}]}


@capped(user="user", cost="1.5")
def draw(user: str) -> str:
    return "a picture"


def test_an_application_under_guard():
    """`@capped` uses it inside the block, and what was there before afterwards."""
    with guarded(POLICY) as outer:
        assert default_guard() is outer
        with guarded(POLICY) as inner:
            draw("u1")
            assert (inner.spent("u1"), outer.spent("u1")) == (1.5, 0)
        assert default_guard() is outer
    with pytest.raises(PolicyError):
        default_guard()


def test_a_block_that_fails_gives_back_what_was_there():
    """An assertion in a test leaves nothing behind."""
    with pytest.raises(KeyError), guarded(POLICY):
        raise KeyError
    with pytest.raises(PolicyError):
        default_guard()


def test_deny():
    """A cap that is denied refuses, as if it were spent, until it is allowed again; nothing is booked."""
    with guarded(POLICY) as guard:
        guard.deny("monthly")
        with pytest.raises(CapExceeded) as refused:
            draw("u1")
        assert (refused.value.cap.id, refused.value.reason) == ("monthly", "exhausted")
        assert not guard.check(user="u1", cost=1)
        assert not guard.allow(user="u1", cost=1)
        assert list(guard.entries()) == []
        guard.allow_again("monthly")
        guard.allow_again("monthly")
        assert draw("u1") == "a picture"


async def test_deny_async():
    """The async verbs as well."""
    with guarded(POLICY) as guard:
        guard.deny("monthly")
        with pytest.raises(CapExceeded):
            async with guard.call(user="u1", cost=1):
                raise AssertionError("the block was entered")


def test_spent():
    """Of one user or of all: settled, also late, not what is held."""
    with guarded(POLICY) as guard:
        draw("u1")
        draw("u2")
        late = guard.reserve(user="u1", cost=1)
        assert (guard.spent("u1"), guard.spent(), guard.spent("nobody")) == (1.5, 3, 0)
        guard.clock.advance(hours=1)
        guard.settle(late, cost="0.5")
        assert guard.spent("u1") == 2
        assert guard.allow(user="u1", cost=1)
        assert guard.spent("u1") == 3


def test_its_clock_moves_the_windows():
    """A month ends when the test says so."""
    with guarded(POLICY) as guard:
        for _ in range(3):
            draw("u1")
        with pytest.raises(CapExceeded):
            draw("u1")
        guard.clock.advance(days=31)
        assert draw("u1")


def test_a_clock_of_ones_own():
    """Several Guards on one clock."""
    clock = ManualClock()
    with guarded(POLICY, clock=clock) as one, guarded(POLICY, clock=clock) as other:
        assert one.clock is other.clock is clock


def test_a_wrong_policy_is_refused():
    with pytest.raises(PolicyError), guarded({"caps": [{"id": "monthly"}]}):
        raise AssertionError("the block was entered")


def test_the_fixture(capguarded):  # noqa: F811
    """`capguarded(policy)`: undone by pytest."""
    guard = capguarded(POLICY)
    assert isinstance(guard, GuardedGuard)
    assert default_guard() is guard
    assert repr(guard) == "GuardedGuard('memory://')"


def test_the_fixture_was_undone():
    """The test before left no Guard behind."""
    with pytest.raises(PolicyError):
        default_guard()


def test_the_clock():
    """It stands still, moves by what it is told, also back, and knows zones."""
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    assert clock() == clock() == int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1000)
    assert clock.advance(hours=1, milliseconds=5) == datetime(2026, 3, 1, 1, 0, 0, 5000, tzinfo=UTC) == clock.now
    assert clock.advance(hours=-1) < datetime(2026, 3, 1, 0, 1, tzinfo=UTC)
    clock.set(datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=2))))
    assert clock.now == datetime(2026, 2, 28, 22, tzinfo=UTC)
    for naive in (datetime(2026, 1, 1),):  # noqa: DTZ001
        with pytest.raises(ValueError, match="naive"):
            clock.set(naive)


@pytest.mark.parametrize("cap", ["nothing", "told"])
def test_only_a_cap_that_refuses_can_be_denied(cap: str) -> None:
    """A typo, or a cap that only warns, would make a test that shows nothing."""
    policy = {"caps": [{"id": "m", "limit": 1}, {"id": "told", "limit": 1, "action": "warn"}]}
    with guarded(policy) as guard, pytest.raises(ValueError, match="allowed: m"):
        guard.deny(cap)
