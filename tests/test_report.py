"""`Guard.report`: who spent what, what a plan earns, what caps that only watch would have blocked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from capguard import Guard, Usage, answers
from capguard.fold import Fold
from capguard.ledger.commands import Journal
from capguard.ledger.outcomes import Lines
from capguard.report import Report, ReportRow
from capguard.testing import ManualClock

from .kit import PRICES

POLICY: dict[str, Any] = {
    "prices": PRICES,
    "default_plan": "basic",
    "plans": {
        "basic": {"price": 1, "caps": [{"id": "notice", "limit": 2, "action": "warn"}]},
        "pro": {"price": 10, "markup": 2},
        "trial": {"caps": [{"id": "quiet", "limit": 9, "action": "warn"}]},
    },
    "caps": [{"id": "shadow", "limit": 3, "action": "dry_run"}],
}
Opened = Callable[..., Guard]


def spend(guard: Guard) -> None:
    """Ann, on basic, spends 2.52 and is warned twice; Bob, on pro, spends 4 and drops a call; Cy holds a quarter."""
    whole: dict[str, Any] = {"user": "ann", "team": "red", "tags": {"env": "prod"}}
    guard.settle(guard.reserve(cost="1", feature="chat", **whole), cost="1.5")
    guard.settle(guard.reserve(cost="1", **whole), cost="1")
    usage = Usage(model="big", input_tokens=1000, output_tokens=500)
    guard.settle(guard.reserve(user="ann", model="big", usage=usage), usage=usage)
    guard.allow(user="bob", plan="pro", cost="4", key_id="k1")
    guard.release(guard.reserve(user="bob", plan="pro", cost="3"))
    guard.reserve(user="cy", cost="0.25", session="s1")


def told(row: ReportRow) -> tuple[str | None, int, str, str, str, int]:
    return row.key, row.calls, *(f"{each:f}" for each in (row.cost, row.billed, row.held)), row.open


BY: dict[str, list[tuple[str | None, int, str, str, str, int]]] = {
    "plan": [("pro", 1, "4", "8", "0", 0), ("basic", 3, "2.52", "2.52", "0.25", 1)],
    "user": [("bob", 1, "4", "8", "0", 0), ("ann", 3, "2.52", "2.52", "0", 0), ("cy", 0, "0", "0", "0.25", 1)],
    "team": [(None, 2, "4.02", "8.02", "0.25", 1), ("red", 2, "2.5", "2.5", "0", 0)],
    "feature": [(None, 3, "5.02", "9.02", "0.25", 1), ("chat", 1, "1.5", "1.5", "0", 0)],
    "model": [(None, 3, "6.5", "10.5", "0.25", 1), ("big", 1, "0.02", "0.02", "0", 0)],
    "key_id": [("k1", 1, "4", "8", "0", 0), (None, 3, "2.52", "2.52", "0.25", 1)],
    "session": [(None, 4, "6.52", "10.52", "0", 0), ("s1", 0, "0", "0", "0.25", 1)],
    "tag:env": [(None, 2, "4.02", "8.02", "0.25", 1), ("prod", 2, "2.5", "2.5", "0", 0)],
    "org": [(None, 4, "6.52", "10.52", "0.25", 1)],
}


@pytest.mark.parametrize(("by", "rows"), BY.items(), ids=BY)
async def test_by(opened: Opened, by: str, rows: list[Any]) -> None:
    """The same calls by every field, dearest group first; the total never depends on it. Async says the same."""
    guard = opened(POLICY)
    spend(guard)
    found = guard.report(by)
    assert [told(row) for row in found.rows] == rows
    assert told(found.total) == (None, 4, "6.52", "10.52", "0.25", 1)
    assert (found.total.input_tokens, found.total.output_tokens) == (1000, 500)
    assert await guard.areport(by) == found


def test_plans(opened: Opened) -> None:
    """By plan: customers, revenue, margin, and who cost more than the price."""
    guard = opened(POLICY)
    spend(guard)
    guard.allow(user="tim", plan="trial", cost="0.5")
    plans = {row.key: row.economics for row in guard.report().rows}
    basic, pro, trial = plans["basic"], plans["pro"], plans["trial"]
    assert basic is not None
    assert (basic.customers, basic.revenue, basic.margin) == (2, 2, Decimal("-0.52"))
    assert [(each.user, each.cost, each.loss) for each in basic.worst] == [("ann", Decimal("2.52"), Decimal("1.52"))]
    assert pro is not None
    assert (pro.customers, pro.revenue, pro.margin, pro.under_water, pro.worst) == (1, 10, 6, 0, ())
    assert trial is not None
    assert (trial.customers, trial.price, trial.revenue, trial.margin, trial.under_water) == (1, None, None, None, 0)


def test_the_worst_are_named_and_all_are_counted(opened: Opened) -> None:
    """Of many users under water the deepest 20 stand there; one who cost just the price is not among them."""
    guard = opened(POLICY)
    for number in range(25):
        guard.allow(user=f"u{number:02}", cost=str(1 + number))
    plan = guard.report().rows[0].economics
    assert plan is not None
    assert (plan.customers, plan.under_water) == (25, 24)
    assert [each.user for each in plan.worst] == [f"u{number:02}" for number in range(24, 4, -1)]


DENIED: dict[str, list[tuple[str, str | None, int]]] = {
    "user": [("hard", "ann", 3), ("all", None, 2), ("hard", "bob", 1)],
    "team": [("hard", None, 4), ("all", None, 2)],
    "tag:env": [("hard", None, 4), ("all", "prod", 2)],
}


@pytest.mark.parametrize("by", DENIED)
def test_denials(opened: Opened, by: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each cap refused within the report's time, for whom where the cap counts per the field, page by page."""
    monkeypatch.setattr("capguard.answers.PAGE", 2)
    everybody = {"id": "all", "per": ["tag:env"], "limit": 5}
    guard = opened({"caps": [{"id": "hard", "limit": 1}, everybody]})
    clock.advance(minutes=1)
    start = clock.now
    for user, cost, minutes in (("ann", 2, 0), ("ann", 9, 1), ("ann", 9, 0), ("bob", 2, 1), ("ann", 2, 1)):
        clock.advance(minutes=minutes)
        assert not guard.check(user=user, cost=cost)
        assert not guard.allow(user=user, cost=cost, tags={"env": "prod"})
    found = guard.report(by, since=start, until=clock.now)
    assert [(row.cap, row.key, row.times) for row in found.denials] == DENIED[by]
    assert found.to_dict()["denials"][0] == dict(zip(("cap", "key", "times"), DENIED[by][0], strict=True))
    assert guard.report(by, until=start).denials == ()


def test_shadow(opened: Opened) -> None:
    """What a cap that only watches would have blocked; one that saw nothing has a row of zeros."""
    guard = opened(POLICY)
    spend(guard)
    shadow = {row.cap: (row.action, row.calls, row.cost, row.users) for row in guard.report("user").shadow}
    assert shadow == {
        "notice": ("warn", 2, Decimal("1.02"), 1),
        "quiet": ("warn", 0, 0, 0),
        "shadow": ("dry_run", 1, 4, 1),
    }


LIVES: dict[str, tuple[list[str], tuple[int, str, int, str]]] = {
    "held": (["reserve"], (0, "0", 1, "0.5")),
    "settled": (["reserve", "settle"], (1, "0.75", 0, "0")),
    "settled twice": (["reserve", "settle", "settle"], (1, "0.75", 0, "0")),
    "released": (["reserve", "release"], (0, "0", 0, "0")),
    "expired": (["reserve", "wait"], (1, "0.5", 0, "0")),
    "settled late": (["reserve", "wait", "settle"], (1, "0.75", 0, "0")),
    "released after it expired": (["reserve", "wait", "release"], (0, "0", 0, "0")),
    "settled after it was released": (["reserve", "release", "settle"], (1, "0.75", 0, "0")),
    "released after it was settled": (["reserve", "settle", "release"], (1, "0.75", 0, "0")),
}


@pytest.mark.parametrize(("verbs", "counts"), LIVES.values(), ids=LIVES)
def test_the_last_booking_counts(
    opened: Opened,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    verbs: list[str],
    counts: tuple[int, str, int, str],
) -> None:
    """Settled over expired over held; what was released counts nothing. However the journal is cut into pages."""
    monkeypatch.setattr(answers, "PAGE", 1)
    guard = opened(POLICY)
    steps: dict[str, Callable[[], object]] = {
        "reserve": lambda: guard.reserve(user="u1", cost="0.5", id="one"),
        "settle": lambda: guard.settle("one", cost="0.75"),
        "release": lambda: guard.release("one"),
        "wait": lambda: (clock.advance(minutes=10), guard.check(user="u1", cost=0)),
    }
    for verb in verbs:
        steps[verb]()
    row = guard.report("user").total
    assert (row.calls, f"{row.cost:f}", row.open, f"{row.held:f}") == counts
    assert row.cost == guard.status(user="u1").caps["shadow"].settled


def month(report: Report) -> tuple[datetime, datetime]:
    return report.since, report.until


def test_the_default_is_this_month_in_the_zone_of_the_policy(opened: Opened, clock: ManualClock) -> None:
    """In Paris it is February already; `until` is now."""
    clock.set(datetime(2026, 1, 31, 23, 30, tzinfo=UTC))
    guard = opened({**POLICY, "timezone": "Europe/Paris"})
    guard.allow(user="u1", cost="1")
    report = guard.report()
    assert month(report) == (datetime(2026, 1, 31, 23, tzinfo=UTC), clock.now + timedelta(milliseconds=1))
    assert report.total.calls == 1


def test_a_report_of_a_month_that_is_over(opened: Opened) -> None:
    """`until` at the first of a month is the end of the month before."""
    until = datetime(2026, 1, 1, tzinfo=UTC)
    assert month(opened(POLICY).report(until=until)) == (datetime(2025, 12, 1, tzinfo=UTC), until)


def test_a_call_belongs_to_the_time_of_its_reserve(
    opened: Opened, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its caps have it: [since, until) is judged by the reserve, however late the settle comes."""
    monkeypatch.setattr(answers, "PAGE", 1)
    guard = opened(POLICY)
    times = []
    for id in ("before", "first", "second"):
        times.append(clock.now)
        guard.reserve(user="u1", cost="0.5", id=id, ttl=3600)
        clock.advance(minutes=1)
    for number, id in enumerate(("before", "first", "second")):
        guard.settle(id, cost=str(10**number))
    assert guard.report("user", since=times[1], until=times[2]).total.cost == 10
    assert guard.report("user", since=times[1]).total.cost == 110
    assert guard.report("user", until=times[1]).total.cost == 1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no such field": ({"by": "colour"}, "by: 'colour'"),
    "a tag without a name": ({"by": "tag:"}, "by: 'tag:'"),
    "no text": ({"by": 3}, "by: 3"),
    "naive since": ({"since": datetime(2026, 1, 1)}, "naive"),  # noqa: DTZ001
    "naive until": ({"until": datetime(2026, 1, 1)}, "naive"),  # noqa: DTZ001
    "nothing between": (
        {"since": datetime(2026, 2, 1, tzinfo=UTC), "until": datetime(2026, 2, 1, tzinfo=UTC)},
        "not before",
    ),
}


@pytest.mark.parametrize(("words", "why"), REFUSED.values(), ids=REFUSED)
def test_refused(opened: Opened, words: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        opened(POLICY).report(**words)


def test_memory_is_bounded(opened: Opened, clock: ManualClock) -> None:
    """A fold remembers calls that may still change, and of those that ended unsettled only for two retentions."""
    guard = opened(POLICY)
    for number in range(50):
        guard.settle(guard.reserve(user="u1", cost="0.01"), cost="0.01")
        guard.reserve(user="u1", cost="0.01", id=f"lost-{number}")
    clock.advance(days=1)
    guard.allow(user="u1", cost="0.01")
    clock.advance(days=3)
    guard.allow(user="u1", cost="0.01")
    found = guard.carry_out(Journal(limit=1000))
    assert isinstance(found, Lines)
    fold = Fold(guard.policy, "user", 0, 2**42)
    fold.add(found.lines[:150])
    assert len(fold._calls) == 50
    fold.add(found.lines[150:])
    assert fold._calls == {}
    assert fold.report().total.calls == 102


def test_json(opened: Opened) -> None:
    """to_dict is plain JSON: amounts as text."""
    guard = opened(POLICY)
    spend(guard)
    row = guard.report().to_dict()["rows"][1]
    assert row == {
        "key": "basic",
        "calls": 3,
        "input_tokens": 1000,
        "output_tokens": 500,
        "cost": "2.52",
        "billed": "2.52",
        "held": "0.25",
        "open": 1,
        "economics": {
            "customers": 2,
            "price": "1",
            "revenue": "2",
            "margin": "-0.52",
            "under_water": 1,
            "worst": [{"user": "ann", "cost": "2.52", "loss": "1.52"}],
        },
    }
