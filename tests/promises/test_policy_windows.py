"""The paragraph of windows, form by form, with and without a zone: when a cap starts afresh."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from capguard import CapExceeded, Guard, Policy, PolicyError
from capguard.testing import ManualClock
from tests.promises.kit import Opened, cap, caps, spend, state

MS = timedelta(milliseconds=1)


@pytest.fixture
def url() -> str:
    """Which period an instant lies in is found above the store: one backend is enough."""
    return "memory://"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


THURSDAY = "2026-01-15T12:00"
FORMS: dict[str, list[tuple[str, str]]] = {  # window: (now, the next reset), both in UTC
    "hourly": [(THURSDAY, "2026-01-15T13:00")],
    "hourly@Asia/Kolkata": [(THURSDAY, "2026-01-15T12:30")],
    "daily": [(THURSDAY, "2026-01-16T00:00")],
    "daily:06:30": [(THURSDAY, "2026-01-16T06:30"), ("2026-01-15T06:29", "2026-01-15T06:30")],
    "daily@Europe/Paris": [(THURSDAY, "2026-01-15T23:00"), ("2026-07-15T12:00", "2026-07-15T22:00")],
    "daily:06:30@America/New_York": [(THURSDAY, "2026-01-16T11:30"), ("2026-07-15T09:00", "2026-07-15T10:30")],
    "weekly": [(THURSDAY, "2026-01-19T00:00")],
    "weekly:mon": [(THURSDAY, "2026-01-19T00:00")],
    "weekly:fri": [(THURSDAY, "2026-01-16T00:00")],
    "weekly:mon@Asia/Tokyo": [(THURSDAY, "2026-01-18T15:00")],
    "monthly": [(THURSDAY, "2026-02-01T00:00")],
    "monthly:15": [(THURSDAY, "2026-02-15T00:00"), ("2026-01-14T12:00", "2026-01-15T00:00")],
    "monthly:31": [(THURSDAY, "2026-01-31T00:00"), ("2026-02-10T00:00", "2026-02-28T00:00")],
    "monthly:last": [("2026-04-10T00:00", "2026-04-30T00:00"), ("2028-02-10T00:00", "2028-02-29T00:00")],
    "monthly:1@America/Los_Angeles": [(THURSDAY, "2026-02-01T08:00")],
    "monthly:last@Asia/Tokyo": [(THURSDAY, "2026-01-30T15:00")],
    "quarterly": [(THURSDAY, "2026-04-01T00:00"), ("2026-12-31T23:59", "2027-01-01T00:00")],
    "quarterly:20": [(THURSDAY, "2026-01-20T00:00"), ("2026-01-20T00:00", "2026-04-20T00:00")],
    "quarterly@Europe/Paris": [(THURSDAY, "2026-03-31T22:00")],
    "yearly": [(THURSDAY, "2027-01-01T00:00")],
    "yearly:4-6": [(THURSDAY, "2026-04-06T00:00"), ("2026-04-06T00:00", "2027-04-06T00:00")],
    "yearly:4-6@Europe/London": [(THURSDAY, "2026-04-05T23:00")],
    "yearly:2-29": [(THURSDAY, "2026-02-28T00:00"), ("2028-01-15T00:00", "2028-02-29T00:00")],
    "nth_weekday:2:tue": [(THURSDAY, "2026-02-10T00:00"), ("2026-01-12T00:00", "2026-01-13T00:00")],
    "nth_weekday:last:fri": [(THURSDAY, "2026-01-30T00:00")],
    "nth_weekday:2:tue@Europe/Paris": [(THURSDAY, "2026-02-09T23:00")],
    "every:36h": [(THURSDAY, "2026-01-16T00:00")],  # 13,646 times 36 hours after 1970
    "every:36h/2026-01-15": [(THURSDAY, "2026-01-16T12:00")],
    "every:24h/2026-01-15@Europe/Paris": [(THURSDAY, "2026-01-15T23:00"), ("2026-07-15T12:00", "2026-07-15T23:00")],
}
ROWS = [(window, *row) for window, rows in FORMS.items() for row in rows]


@pytest.mark.parametrize(("window", "now", "reset"), ROWS, ids=[f"{window} at {now}" for window, now, _ in ROWS])
def test_a_window_starts_afresh(opened: Opened, clock: ManualClock, window: str, now: str, reset: str) -> None:
    """`resets_at` says when; until the millisecond before it what was spent counts, from it on nothing does."""
    clock.set(utc(now))
    guard = opened(caps(cap(limit=1, window=window)))
    spend(guard, 1)
    assert state(guard).resets_at == utc(reset)
    clock.set(utc(reset) - MS)
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(user="u1", cost=1)
    assert refused.value.resets_at == utc(reset)
    clock.set(utc(reset))
    assert state(guard).settled == 0
    guard.reserve(user="u1", cost=1)


@pytest.mark.parametrize("window", ["lifetime", "lifetime@Europe/Paris"])
def test_lifetime_never_starts_afresh(opened: Opened, clock: ManualClock, window: str) -> None:
    guard = opened(caps(cap(limit=1, window=window)))
    spend(guard, 1)
    clock.advance(days=36_500)
    assert (state(guard).settled, state(guard).resets_at) == (1, None)


@pytest.mark.parametrize("window", ["rolling:24h", "rolling:1d@Asia/Tokyo"])
def test_rolling_looks_back_the_whole_duration(opened: Opened, clock: ManualClock, window: str) -> None:
    """What was spent counts for at least 24 hours and for less than two buckets (of 24 minutes) more."""
    guard = opened(caps(cap(limit=1, window=window)))
    spend(guard, 1)
    clock.advance(hours=24, milliseconds=-1)
    assert state(guard).settled == 1
    clock.advance(minutes=48)
    assert state(guard).settled == 0


def length(opened: Opened, clock: ManualClock, window: str, now: str) -> timedelta:
    """How long the period is that holds `now`: from one reset to the next."""
    guard = opened(caps(cap(window=window)))
    clock.set(utc(now))
    starts = state(guard).resets_at
    assert starts is not None
    clock.set(starts)
    ends = state(guard).resets_at
    assert ends is not None
    return ends - starts


@pytest.mark.parametrize(
    ("now", "days"),
    [("2026-01-31", 28), ("2028-01-31", 29), ("2026-03-31", 30), ("2026-06-30", 31)],
)
def test_a_month_is_never_30_days(opened: Opened, clock: ManualClock, now: str, days: int) -> None:
    """It is as long as the month."""
    assert length(opened, clock, "monthly", now) == timedelta(days=days)


@pytest.mark.parametrize(
    ("now", "hours"),
    [("2026-03-28T12:00", 23), ("2026-10-24T12:00", 25), ("2026-05-01T12:00", 24)],
    ids=["spring", "autumn", "else"],
)
def test_a_day_may_have_23_or_25_hours(opened: Opened, clock: ManualClock, now: str, hours: int) -> None:
    assert length(opened, clock, "daily@Europe/Paris", now) == timedelta(hours=hours)
    assert length(opened, clock, "every:24h", now) == timedelta(hours=24)


def test_anchor_days_are_clamped_to_each_months_own_length(opened: Opened, clock: ManualClock) -> None:
    """`monthly:30` starts on Feb 28, and on the 30th again in March: the clamp does not stick."""
    clock.set(utc("2026-01-30"))
    guard, resets = opened(caps(cap(window="monthly:30"))), []
    for _ in range(3):
        at = state(guard).resets_at
        assert at is not None
        clock.set(at)
        resets.append(f"{at:%m-%d}")
    assert resets == ["02-28", "03-30", "04-30"]


REFUSED = [
    "1mo", "30d", "month", "Monthly :1", "monthly:0", "monthly:32", "daily:24:00", "daily:6", "weekly:monday",
    "quarterly:32", "yearly:13-1", "yearly:2-30", "nth_weekday:5:mon", "nth_weekday:2", "every:", "every:1mo",
    "every:0s", "every:400d", "rolling", "rolling:0s", "lifetime:1", "daily@Mars/Base", "daily@", "",
]  # fmt: skip


@pytest.mark.parametrize("window", REFUSED)
def test_what_the_grammar_does_not_know_is_refused_at_load(window: str) -> None:
    """With the place and the allowed forms."""
    with pytest.raises(PolicyError) as refused:
        Policy(caps=[{"id": "c", "limit": 1, "window": window}])
    (finding,) = refused.value.findings
    assert finding.place == "caps[0] (c).window"
    assert "hourly, daily[:HH:MM], weekly" in finding.allowed or "IANA" in str(finding)


def test_all_findings_at_once() -> None:
    """Not the first one only, and wherever they stand."""
    wrong: list[dict[str, Any]] = [cap(f"c{n}", 1, window=window) for n, window in enumerate(REFUSED)]
    with pytest.raises(PolicyError) as refused:
        Policy(caps=wrong, timezone="Mars/Base", plans={"pro": {"included": {"amount": 1, "window": "1mo"}}})
    places = {finding.place for finding in refused.value.findings}
    assert places == {"timezone", "plans.pro.included.window"} | {
        f"caps[{n}] (c{n}).window" for n in range(len(REFUSED))
    }


@pytest.mark.parametrize(
    ("make", "resets"),
    [
        (lambda: {"caps": [cap(window="daily")]}, "2026-01-15T15:00"),
        (lambda: {"caps": [cap(window="daily@UTC")]}, "2026-01-16T00:00"),
        (lambda: {"plans": {"p": {"caps": [cap(window="daily")]}}, "default_plan": "p"}, "2026-01-15T15:00"),
        (lambda: {"users": {"u1": {"caps": [cap(window="daily")]}}}, "2026-01-15T15:00"),
    ],
    ids=["a cap", "a cap with a zone of its own", "a plan's cap", "a user's cap"],
)
def test_timezone_is_the_default_zone_of_every_window(
    opened: Opened, make: Callable[[], dict[str, Any]], resets: str
) -> None:
    guard = opened({"timezone": "Asia/Tokyo", **make()})
    assert state(guard).resets_at == utc(resets)


def test_timezone_is_the_default_zone_of_the_allowance_and_of_overrides(opened: Opened) -> None:
    plan = {"included": {"amount": 5, "window": "daily"}, "caps": [cap(limit=5)]}
    guard: Guard = opened({"timezone": "Asia/Tokyo", "default_plan": "p", "plans": {"p": plan}})
    guard.override(user="u1", cap="c", window="daily")
    included = guard.status(user="u1").included
    assert included is not None
    assert included.expires_at == state(guard).resets_at == utc("2026-01-15T15:00")
    assert state(guard).limit == Decimal(5)
