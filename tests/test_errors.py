"""The exceptions: one tree, drawn as it is, that travels and explains itself."""

from __future__ import annotations

import builtins
import copy
import json
import pickle
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

import capguard
from capguard import CapExceeded, CapguardError, Guard, PolicyError, errors
from capguard.errors import Finding, MissingExtra, missing_extra
from capguard.testing import ManualClock

Opened = Callable[..., Guard]


def test_the_tree_is_drawn_as_it_is():
    """The docstring names every class, under its base, with the builtin that it also is."""
    drawn = dict(re.findall(r"[├└]── (\w+)\s+(?:\((\w+)\))?", errors.__doc__ or ""))
    found = {
        name: next((base.__name__ for base in each.__bases__ if base is not CapguardError), "")
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, CapguardError) and each is not CapguardError
    }
    assert drawn == found
    assert all(CapguardError in getattr(errors, name).__bases__ for name in found)
    assert all(issubclass(getattr(builtins, base), Exception) for base in found.values() if base)
    assert set(found) | {"CapguardError"} <= set(capguard.__all__)


def test_a_refusal_is_terminal_for_retry_helpers():
    """They retry connection and time-out errors; this is a RuntimeError, and no BackendUnavailable."""
    assert issubclass(CapExceeded, RuntimeError)
    assert not issubclass(CapExceeded, (OSError, TimeoutError))
    assert not issubclass(capguard.BackendUnavailable, CapExceeded)


def refused(guard: Guard, **call: Any) -> CapExceeded:
    with pytest.raises(CapExceeded) as caught:
        guard.reserve(**call)
    return caught.value


POLICY = {
    "default_plan": "free",
    "plans": {"free": {"caps": [{"id": "daily", "limit": 2, "window": "daily"}, {"id": "life", "limit": 9}]}},
    "caps": [
        {"id": "company", "per": [], "limit": 5},
        {"id": "rpm", "unit": "requests", "limit": 2, "window": "every:60s", "action": "throttle"},
    ],
}
MIDNIGHT = datetime(2026, 1, 16, tzinfo=UTC)
MONTH = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
def guard(opened: Opened) -> Guard:
    return opened(POLICY)


def test_spent(guard: Guard, clock: ManualClock):
    """`exhausted`: waiting for the reset helps, a retry does not."""
    guard.settle(guard.reserve(user="u1", cost="1.5"), cost="1.5")
    error = refused(guard, user="u1", cost=1)
    cap = error.cap
    assert (cap.id, cap.unit, cap.action, cap.scope) == ("daily", "usd", "block", {"user": "u1"})
    assert (cap.limit, cap.settled, cap.held, cap.remaining, cap.requested) == (2, Decimal("1.5"), 0, Decimal("0.5"), 1)
    assert (error.reason, error.retryable, error.code) == ("exhausted", False, "budget_cap_exceeded")
    assert error.resets_at == cap.resets_at == MIDNIGHT
    assert error.retry_after == (MIDNIGHT - clock.now).total_seconds()
    assert [each.id for each in error.caps] == ["daily"]


def test_in_flight(guard: Guard):
    """Other calls hold the room: try again soon."""
    guard.reserve(user="u1", cost="1.5")
    error = refused(guard, user="u1", cost=1)
    assert (error.reason, error.retryable, error.retry_after) == ("in_flight", True, 1.0)


def test_too_big(guard: Guard):
    """It can never fit: no time is named after which it would."""
    error = refused(guard, user="u1", cost=3)
    assert (error.reason, error.retryable, error.retry_after) == ("too_big", False, None)


def test_throttled(guard: Guard, clock: ManualClock):
    """Room comes with the next period."""
    for _ in range(2):
        guard.settle(guard.reserve(user="u1", cost=0), cost=0)
    error = refused(guard, user="u1", cost=0)
    assert (error.reason, error.retryable, error.cap.id) == ("throttled", True, "rpm")
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 60
    clock.advance(seconds=error.retry_after)
    guard.reserve(user="u1", cost=0)


def test_all_refusing_caps_in_policy_order(guard: Guard):
    """The plan's as written, then the global ones; retryable only if all are; the latest reset."""
    for user in ("u2", "u3"):
        guard.settle(guard.reserve(user=user, cost=2), cost=2)
    guard.settle(guard.reserve(user="u1", cost=0), cost="1.5")
    guard.settle(guard.reserve(user="u1", cost=0), cost=0)
    error = refused(guard, user="u1", cost=2)
    assert [cap.id for cap in error.caps] == ["daily", "company", "rpm"]
    assert [cap.reason for cap in error.caps] == ["exhausted", "exhausted", "throttled"]
    assert (error.cap.id, error.retryable) == ("daily", False)
    assert error.resets_at == MONTH
    assert error.retry_after == max(cap.retry_after or 0 for cap in error.caps)
    assert "and 2 more" in str(error)


@pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_errors_travel(guard: Guard, travel: Callable[[Any], Any]):
    """Through process pools and task queues, with all they know."""
    error = refused(guard, user="u1", cost=3)
    arrived = travel(error)
    assert (type(arrived), str(arrived), arrived.caps) == (CapExceeded, str(error), error.caps)
    finding = Finding("caps[0].limit", "-1", "a number")
    for policy_error in (PolicyError([finding, finding]), PolicyError("one line")):
        arrived = travel(policy_error)
        assert (str(arrived), arrived.findings) == (str(policy_error), policy_error.findings)


def test_a_refusal_explains_itself(guard: Guard):
    """One sentence with the cap, why, what was needed, for whom and until when; JSON for machines."""
    error = refused(guard, user="u1", cost=3)
    for part in ("'daily'", "too_big", "needs 3", "of 2 usd", "user=u1", "2026-01-16"):
        assert part in str(error)
    told = json.loads(json.dumps(error.cap.to_dict()))
    assert told["id"] == "daily"
    assert (told["limit"], told["remaining"], told["resets_at"]) == ("2", "2", MIDNIGHT.isoformat())


def test_a_refusal_names_a_cap():
    """An error about no cap would explain nothing."""
    with pytest.raises(ValueError, match="at least one"):
        CapExceeded([])


def test_a_lifetime_never_resets(opened: Opened):
    """Nothing to wait for."""
    guard = opened({"caps": [{"id": "run", "limit": 1, "window": "lifetime"}]})
    guard.settle(guard.reserve(user="u1", cost=1), cost=1)
    error = refused(guard, user="u1", cost=1)
    assert (error.reason, error.resets_at, error.retry_after) == ("exhausted", None, None)


def test_a_missing_extra_says_what_to_install():
    """One line, and the cause."""
    cause = ImportError("no module")
    with pytest.raises(MissingExtra, match=r"pip install 'capguard\[demo\]'") as caught:
        missing_extra("the fake provider", "demo", cause)
    assert caught.value.__cause__ is cause


def test_the_clock_of_the_error_is_the_ledgers(guard: Guard, clock: ManualClock):
    """A process whose clock is behind gets the same answer."""
    guard.settle(guard.reserve(user="u1", cost=2), cost=2)
    clock.advance(hours=2)
    guard.settle(guard.reserve(user="u2", cost=1), cost=1)
    first = refused(guard, user="u1", cost=1)
    clock.advance(hours=-1)
    assert first.retry_after == refused(guard, user="u1", cost=1).retry_after
    assert first.retry_after == (MIDNIGHT - clock.now - timedelta(hours=1)).total_seconds()
