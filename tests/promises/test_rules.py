"""Admission, refusal, meters, periods: rules 1 to 5, a test or more for each sentence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from capguard import BackendUnavailable, Cap, CapExceeded, Guard, IdentityMissing
from capguard.testing import ManualClock
from tests.kit import last
from tests.promises.kit import ASK, Opened, cap, caps, listen, meters, refusing, spend, state

NANO = Decimal("0.000000001")
MIDNIGHT = datetime(2026, 1, 16, tzinfo=UTC)

# rule 1: admission


@pytest.mark.parametrize(
    ("settled", "held", "asked", "fits"),
    [
        (0, 0, 1, True),
        (0, 0, 1 + NANO, False),
        ("0.4", 0, "0.6", True),
        ("0.4", 0, Decimal("0.6") + NANO, False),
        (0, "0.4", "0.6", True),
        (0, "0.4", Decimal("0.6") + NANO, False),
        ("0.3", "0.3", "0.4", True),
        ("0.3", "0.3", Decimal("0.4") + NANO, False),
        (1, 0, NANO, False),
        (0, 1, NANO, False),
    ],
)
@pytest.mark.parametrize("action", ["block", "clamp", "throttle"])
def test_rule_1_admitted_iff_settled_held_and_asked_fit(
    opened: Opened, action: str, settled: Any, held: Any, asked: Any, fits: bool
) -> None:
    """Equality passes, one nano-dollar more does not, for every enforcing action."""
    fields = {"max_wait": "0.001"} if action == "throttle" else {}
    guard = opened(caps(cap(limit=1, action=action, **fields)))
    if settled:
        spend(guard, settled)
    if held:
        guard.reserve(user="u1", cost=held)
    if fits:
        assert guard.reserve(user="u1", cost=asked).held == Decimal(asked)
    else:
        assert refusing(guard, user="u1", cost=asked) == ["c"]


def test_rule_1_every_enforcing_cap_counts(opened: Opened) -> None:
    """The one with the least room decides, wherever it stands."""
    guard = opened(caps(cap("a", 9), cap("b", 1, per=[]), cap("d", 9, window="daily")))
    assert refusing(guard, user="u1", cost=2) == ["b"]
    assert guard.reserve(user="u1", cost=1).caps == ("a", "b", "d")


def test_rule_1_overrun_never_makes_room(opened: Opened) -> None:
    """A meter beyond its limit admits nothing, whatever else is given back."""
    guard = opened(caps(cap(limit=1)))
    first, second = (guard.reserve(user="u1", cost="0.5") for _ in range(2))
    guard.settle(first, cost=3)
    guard.release(second)
    assert (state(guard).settled, state(guard).remaining) == (3, 0)
    assert refusing(guard, user="u1", cost=NANO) == ["c"]


def test_rule_1_the_excess_is_the_meters_overrun(opened: Opened) -> None:
    """Only what lies beyond the limit, and every booking adds its own."""
    guard = opened(caps(cap(limit=1)))
    spend(guard, "0.8")
    assert state(guard).overrun == 0
    spend(guard, "0.5")
    assert (state(guard).settled, state(guard).overrun) == (Decimal("1.3"), Decimal("0.3"))
    spend(guard, "0.2")
    assert state(guard).overrun == Decimal("0.5")


def test_rule_1_what_others_hold_is_not_there_to_be_overrun(opened: Opened) -> None:
    """A booking above its estimate takes no room from a neighbour's hold."""
    guard = opened(caps(cap(limit=1)))
    mine, theirs = guard.reserve(user="u1", cost="0.5"), guard.reserve(user="u1", cost="0.5")
    assert guard.settle(mine, cost="0.7").overrun == Decimal("0.2")
    assert guard.settle(theirs, cost="0.5").overrun == 0


def above_estimate(guard: Guard, _: ManualClock) -> None:
    guard.settle(guard.reserve(user="u1", cost=1), cost=3)


def late(guard: Guard, clock: ManualClock) -> None:
    reservation = guard.reserve(user="u1", cost=1)
    clock.advance(minutes=10)
    guard.reserve(user="u1", cost=0)  # ends it
    guard.settle(reservation, cost=3)


@pytest.mark.parametrize("cause", [above_estimate, late], ids=["above_estimate", "late"])
def test_rule_1_the_cause_of_an_overrun_stands_on_the_entry(
    opened: Opened, clock: ManualClock, cause: Callable[[Guard, ManualClock], None]
) -> None:
    guard = opened(caps(cap(limit=2)))
    cause(guard, clock)
    assert last(guard).body["overrun"]
    assert last(guard).body["facts"].get("cause") == cause.__name__


# rule 2: refusal


@pytest.mark.parametrize("verb", ["reserve", "allow", "check", "call"])
def test_rule_2_a_refusal_changes_no_meter(opened: Opened, verb: str) -> None:
    """None of the caps that had room either, no source, and no entry."""
    plan = {"included": {"amount": 1}, "caps": [cap("wide", 9), cap("tight", 2, overage_only=True)]}
    guard = opened(caps(cap("all", 9, per=[]), plans={"p": plan}, default_plan="p"))
    before, entries = guard.status(user="u1").to_dict(), len(list(guard.entries()))
    if verb in ("allow", "check"):
        assert not getattr(guard, verb)(user="u1", cost=4)
    else:
        with pytest.raises(CapExceeded):
            guard.reserve(user="u1", cost=4) if verb == "reserve" else guard.call(user="u1", cost=4).__enter__()
    assert (guard.status(user="u1").to_dict(), len(list(guard.entries()))) == (before, entries)


def test_rule_2_denials_are_counted_per_cap_identity_and_minute(opened: Opened, clock: ManualClock) -> None:
    """For the log: one line for each, with how often."""
    clock.set(datetime(2026, 1, 15, 12, 0, 30, tzinfo=UTC))
    guard = opened(caps(cap("a", 1), cap("b", 1)))
    for user, seconds in (("u1", 0), ("u1", 20), ("u2", 9), ("u1", 1)):
        clock.advance(seconds=seconds)
        assert refusing(guard, user=user, cost=2) == ["a", "b"]
    counted = [(f"{line.at:%M}", line.cap, line.scope["user"], line.count) for line in guard.log()]
    assert sorted(counted) == [
        ("00", "a", "u1", 2), ("00", "a", "u2", 1), ("00", "b", "u1", 2), ("00", "b", "u2", 1),
        ("01", "a", "u1", 1), ("01", "b", "u1", 1),
    ]  # fmt: skip


def test_rule_2_denials_are_counted_for_the_report(opened: Opened) -> None:
    """A report of a time with refusals says other things than one of a time without."""
    guard = opened(caps(cap(limit=1)))
    spend(guard, 1)
    before = guard.report().to_dict()
    refusing(guard, user="u1", cost=1)
    assert guard.report().to_dict() != before


def test_rule_2_check_is_no_denial(opened: Opened) -> None:
    guard = opened(caps(cap(limit=1)))
    assert not guard.check(user="u1", cost=2)
    assert list(guard.log()) == []


def test_rule_2_all_refusing_caps_in_policy_order(opened: Opened) -> None:
    """The plan's as written, then the global ones; those with room are not among them."""
    plan = {"caps": [cap("z", 1), cap("room", 99), cap("a", 1)]}
    guard = opened(caps(cap("m", 1), cap("b", 1, per=[]), plans={"p": plan}, default_plan="p"))
    assert refusing(guard, user="u1", cost=2) == ["z", "a", "m", "b"]


# rule 3: the identity of a meter

BASE = cap(limit=9)
FUNDED = {"default_plan": "p", "plans": {"p": {"included": {"amount": 0}}}}


def republished(opened: Opened, clock: ManualClock, other: dict[str, Any]) -> Decimal:
    """What a cap shows of the $2 that were spent under BASE, once it is published as `other`.

    It is the 1st of January, a Thursday: the day, the week, the month and the year began at the same instant.
    """
    clock.set(datetime(2026, 1, 1, 12, tzinfo=UTC))
    guard = opened(None, initial_policy=caps(BASE, **FUNDED))
    spend(guard, 2, model="big", feature="f")
    guard.publish(caps(other, **FUNDED))
    (shown,) = guard.status(user="u1", feature="f").caps
    return shown.settled


@pytest.mark.parametrize(
    "changed",
    [{"limit": 3}, {"action": "warn"}, {"match": {"model": "small"}}, {"public": True}, {"window": "monthly:1@UTC"}],
    ids=["limit", "action", "match", "public", "the same window in other words"],
)
def test_rule_3_a_meter_stays_the_same_with_another(
    opened: Opened, clock: ManualClock, changed: dict[str, Any]
) -> None:
    """Limit, action or match: what was spent still counts."""
    assert republished(opened, clock, {**BASE, **changed}) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "d"},
        {"unit": "billed"},
        {"per": ["user", "feature"]},
        {"per": []},
        {"window": "daily"},
        {"window": "weekly:thu"},
        {"window": "yearly"},
        {"window": "monthly@Europe/Paris"},
        {"window": "monthly@Africa/Abidjan"},
        {"overage_only": True},
        {"ignore_grants": True},
    ],
    ids=str,
)
def test_rule_3_a_meter_is_another_with_another(opened: Opened, clock: ManualClock, changed: dict[str, Any]) -> None:
    """Id, unit, per, window, overage_only or ignore_grants: it starts at 0."""
    assert republished(opened, clock, {**BASE, **changed}) == 0


def test_rule_3_each_identity_has_its_own(opened: Opened) -> None:
    guard = opened(caps(cap(per=["user", "feature"])))
    spend(guard, 2, feature="f")
    shown = [state(guard, user=user, feature=feature).settled for user in ("u1", "u2") for feature in ("f", "g")]
    assert shown == [2, 0, 0, 0]


def test_rule_3_an_upgrade_carries_the_spend(opened: Opened) -> None:
    """The same id in two plans is the same meter."""
    guard = opened(caps(plans={"free": {"caps": [cap(limit=5)]}, "pro": {"caps": [cap(limit=50)]}}))
    spend(guard, 5, plan="free")
    assert refusing(guard, user="u1", plan="free", cost=1) == ["c"]
    upgraded = state(guard, user="u1", plan="pro")
    assert (upgraded.settled, upgraded.remaining) == (5, 45)


def test_rule_3_a_new_cap_shows_since_when_it_counts(opened: Opened, clock: ManualClock) -> None:
    guard = opened(None, initial_policy=caps(BASE))
    spend(guard, 2)
    clock.advance(days=1)
    guard.publish(caps(cap("new", 9)))
    shown = state(guard, "new")
    assert shown.settled == 0
    assert shown.since == clock.now


@pytest.mark.parametrize(("backfill", "settled"), [(False, 0), (True, 2)])
def test_rule_3_backfill_folds_the_journal_in(opened: Opened, backfill: bool, settled: int) -> None:
    guard = opened(None, initial_policy=caps(BASE))
    spend(guard, 2)
    guard.publish(caps(BASE, cap("new", 9, per=[])), backfill=backfill)
    assert state(guard, "new").settled == settled


# rule 4: a missing field

FIELDS = ["org", "team", "key_id", "feature", "session", "tag:env"]


@pytest.mark.parametrize("field", FIELDS)
def test_rule_4_without_the_field_the_cap_does_not_apply(opened: Opened, field: str) -> None:
    guard = opened(caps(cap(limit=0, per=["user", field])))
    assert guard.reserve(user="u1", cost=1).caps == ()


@pytest.mark.parametrize("field", FIELDS)
def test_rule_4_required_refuses(opened: Opened, field: str) -> None:
    guard = opened(caps(cap(per=["user", field], required=True)))
    with pytest.raises(IdentityMissing, match=field):
        guard.reserve(user="u1", cost=1)


@pytest.mark.parametrize("answer", ["deny", "anonymous"])
def test_rule_4_the_user_is_never_just_missing(opened: Opened, answer: str) -> None:
    """`missing_identity` says: refused, or counted with everybody who has no name."""
    guard = opened(caps(cap(limit=1), failure={"missing_identity": answer}))
    if answer == "deny":
        with pytest.raises(IdentityMissing):
            guard.reserve(cost="0.6")
    else:
        guard.reserve(cost="0.6")
        assert refusing(guard, cost="0.6") == ["c"]


# rule 5: periods


def moves(guard: Guard) -> list[tuple[datetime, int]]:
    """Of the newest entry: the start of each period, and by how much what is settled in it moved."""
    return [(datetime.fromtimestamp(move[1] / 1000, UTC), move[2]) for move in last(guard).body["moves"]]


@pytest.mark.parametrize("end", ["settle", "expire, settle", "release, settle"])
def test_rule_5_a_settle_goes_to_the_period_of_the_reserve(opened: Opened, clock: ManualClock, end: str) -> None:
    """However late; the new period shows nothing of it, and the closed one is not opened for others."""
    guard = opened(caps(cap(limit=1, window="daily")))
    reservation = guard.reserve(user="u1", cost=1)
    clock.set(MIDNIGHT if end == "settle" else MIDNIGHT + timedelta(hours=1))
    if end.startswith("release"):
        guard.release(reservation)
    guard.reserve(user="u1", cost="0.25")
    guard.settle(reservation, cost="0.75")
    assert [start for start, _ in moves(guard)] == [MIDNIGHT - timedelta(days=1)]
    assert meters(guard) == {"c": (0, Decimal("0.25"))}


class Creeping(ManualClock):
    """A clock by which some time passes between a question and its answer."""

    step = timedelta(milliseconds=1)

    def __call__(self) -> int:
        now = super().__call__()
        self.advance(milliseconds=self.step // timedelta(milliseconds=1))
        return now


def creeping_to(moment: datetime) -> Creeping:
    clock = Creeping()
    clock.set(moment - timedelta(milliseconds=1))
    return clock


@pytest.mark.parametrize("store", ["memory://", "sqlite"])
def test_rule_5_a_command_for_another_period_is_built_again(tmp_path: Any, store: str) -> None:
    """Asked at 23:59:59.999 and decided at midnight, the hold lies in the new day."""
    clock = creeping_to(MIDNIGHT)
    url = f"sqlite:///{tmp_path}/l.db" if store == "sqlite" else store
    with Guard(url, policy=caps(cap(limit=1, window="daily")), clock=clock) as guard:
        guard.reserve(user="u1", cost=1)
        assert last(guard).at >= MIDNIGHT
        assert (state(guard).held, state(guard).resets_at) == (1, MIDNIGHT + timedelta(days=1))


@pytest.mark.parametrize("change", ["override", "grant"])
def test_rule_5_a_command_is_built_again_after_a_timed_change(change: str) -> None:
    """At the end of an override, or of a grant, the new terms hold to the millisecond."""
    noon = datetime(2026, 1, 15, 13, tzinfo=UTC)
    clock = creeping_to(noon - timedelta(hours=1))
    with Guard("memory://", policy=caps(cap(limit=1, ignore_grants=True)), clock=clock) as guard:
        if change == "override":
            guard.override(user="u1", cap="c", limit=9, until=noon)
        else:
            guard.grant(user="u1", amount=9, until=noon)
        clock.set(noon - timedelta(seconds=1))
        guard.release(guard.reserve(user="u1", cost=9))
        clock.set(noon - timedelta(milliseconds=1))
        assert refusing(guard, user="u1", cost=9) == ["c"]


def test_rule_5_it_is_not_built_again_for_ever() -> None:
    """Where the time leaps on with every look, the backend is taken for unreachable, and nothing is held."""
    clock = creeping_to(MIDNIGHT)
    with Guard("memory://", policy=caps(cap(window="daily")), clock=clock) as guard:
        clock.step = timedelta(days=1)
        with pytest.raises(BackendUnavailable):
            guard.reserve(user="u1", cost=1)
        assert list(guard.entries()) == []


def test_rule_5_a_hold_leaves_a_rolling_window_with_its_bucket(opened: Opened, clock: ManualClock) -> None:
    """It sits in the bucket of its reserve; the settle goes there too and takes no room of today."""
    guard = opened(caps(cap(limit=1, window="rolling:60s")))
    reservation = guard.reserve(user="u1", cost=1, ttl=3600)
    clock.advance(seconds=60)
    assert (state(guard).held, refusing(guard, user="u1", cost=1)) == (1, ["c"])
    clock.advance(seconds=2)
    assert state(guard).held == 0
    guard.release(guard.reserve(user="u1", cost=1))
    guard.settle(reservation, cost=1)
    assert meters(guard) == {"c": (0, 0)}


def test_rule_5_the_oldest_partial_bucket_counts_whole(opened: Opened, clock: ManualClock) -> None:
    """An hour in buckets of a minute: spent at :00 and :59 of one, both count until the second is out of the hour."""
    guard = opened(caps(cap(limit=9, window="rolling:1h")))
    spend(guard, 1)
    clock.advance(seconds=59)
    spend(guard, 1)
    clock.advance(minutes=60)  # 60 min after the second, 60 min 59 s after the first
    assert state(guard).settled == 2
    clock.advance(seconds=1)
    assert state(guard).settled == 0


def test_rule_5_no_hour_holds_more_than_a_rolling_limit(opened: Opened, clock: ManualClock) -> None:
    """Asked again and again at odd moments: whatever 60 minutes one looks at, at most 3 calls began in them."""
    guard, began = opened(caps(cap(limit=3, window="rolling:1h"))), list[datetime]()
    for _ in range(120):
        clock.advance(seconds=97)
        if guard.allow(user="u1", amount=1):
            began.append(clock.now)
    assert len(began) >= 8
    assert all(later - first >= timedelta(hours=1) for first, later in zip(began, began[3:], strict=False))


def test_rule_5_caps_of_one_call_have_periods_too(opened: Opened, clock: ManualClock) -> None:
    guard = opened(caps())
    run = Cap(id="run", limit=1, window="daily")
    told = listen(guard, "denied")
    guard.reserve(**{**ASK, "caps": [run]})
    spend(guard, 1, caps=[run])
    assert refusing(guard, user="u1", cost=1, caps=[run]) == [told[0].cap] == ["run"]
    clock.set(MIDNIGHT)
    guard.reserve(user="u1", cost=1, caps=[run])
