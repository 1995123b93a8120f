"""What is changed live: overrides, plans, published policies. Whose cap holds, and whom a cap counts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from capguard import BackendUnavailable, Cap, CapExceeded, Guard, IdentityMissing, Policy, PolicyError, Usage, identify
from capguard.testing import ManualClock
from tests.kit import PRICES, kinds, last, spent

Opened = Callable[..., Guard]
Verb = Callable[..., Any]

ONE: dict[str, Any] = {"caps": [{"id": "monthly", "limit": 1}]}
PLANS: dict[str, Any] = {
    "default_plan": "free",
    "plans": {
        "free": {"caps": [{"id": "monthly", "limit": 1}, {"id": "tokens", "limit": 10, "unit": "tokens"}]},
        "pro": {"caps": [{"id": "monthly", "limit": 10}]},
    },
    "users": {"ann": {"caps": [{"id": "monthly", "limit": 2}]}, "bob": {"plan": "pro"}},
    "caps": [{"id": "all", "limit": 100, "per": []}],
    "prices": PRICES,
}


@pytest.fixture(params=["sync", "async"])
def verb(request: pytest.FixtureRequest) -> Verb:
    """`await verb(guard, "settle", ...)`: the sync or the async one of both."""

    async def call(guard: Guard, name: str, *args: Any, **fields: Any) -> Any:
        if request.param == "sync":
            return getattr(guard, name)(*args, **fields)
        return await getattr(guard, f"a{name}")(*args, **fields)

    return call


@pytest.fixture
def two(tmp_path: Any, clock: ManualClock) -> Any:
    """`two(policy)`: two Guards on one SQLite file, as in two processes, that take the backend's policy."""
    guards: list[Guard] = []

    def make(policy: Any = None, **options: Any) -> tuple[Guard, Guard]:
        url = f"sqlite:///{tmp_path}/ledger.db?timeout=30"
        guards.extend(Guard(url, initial_policy=policy, clock=clock, **options) for _ in range(2))
        return guards[0], guards[1]

    yield make
    assert all(guard.verify() for guard in guards)
    for guard in guards:
        guard.close()


def limit(guard: Guard, user: str = "u1", cap: str = "monthly", **fields: Any) -> Any:
    """What holds at the next call, by the refusal of one that is too big."""
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(user=user, cost=9_000_000, **fields)
    return {each.id: each.limit for each in refused.value.caps}.get(cap)


def spend(guard: Guard, amount: Any, user: str = "u1", **call: Any) -> None:
    guard.settle(guard.reserve(user=user, cost=0, **call), cost=amount)


# overrides


async def test_an_override_and_its_end(opened: Opened, clock: ManualClock, verb: Verb) -> None:
    """It holds for one user from the next call on, and ends by itself, to the millisecond; the spend stays."""
    guard = opened(ONE)
    spend(guard, "0.6")
    until = clock.now + timedelta(hours=1)
    await verb(guard, "override", user="u1", cap="monthly", limit=3, until=until, by="ops", why="launch")
    assert (limit(guard), limit(guard, "u2")) == (3, 1)
    spend(guard, 1)
    clock.set(until - timedelta(milliseconds=1))
    assert limit(guard) == 3
    clock.advance(milliseconds=1)
    assert (limit(guard), spent(guard)) == (1, Decimal("1.6"))


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"limit": "2.5"}, "limit", Decimal("2.5")),
        ({"limit": 0}, "limit", 0),
        ({"action": "warn"}, "action", "warn"),
        ({"window": "daily"}, "resets_at", datetime(2026, 1, 16, tzinfo=UTC)),
        ({"unit": "billed"}, "unit", "billed"),
        ({"per": ["user", "feature"]}, "scope", {"user": "u1", "feature": "chat"}),
    ],
)
def test_any_field_may_change(opened: Opened, change: dict[str, Any], field: str, value: Any) -> None:
    guard = opened(ONE)
    guard.override(user="u1", cap="monthly", **change)
    assert getattr(guard.status(user="u1", feature="chat").caps["monthly"], field) == value
    guard.reserve(user="u1", feature="chat", cost=0)


def test_an_override_may_say_what_it_matches(opened: Opened) -> None:
    guard = opened(ONE)
    guard.override(user="u1", cap="monthly", match={"model": "big*", "tag:env": ["prod", "test"]})
    called = {"user": "u1", "cost": 0, "model": "bigger"}
    assert guard.reserve(**called, tags={"env": "test"}).caps == ("monthly",)
    assert guard.reserve(**called).caps == ()


async def test_an_additional_cap(opened: Opened, clock: ManualClock, verb: Verb) -> None:
    """Beside the policy's, after them, for one user; it counts from now on."""
    guard = opened(ONE)
    spend(guard, "0.5")
    caps = [Cap(id="day", limit="0.2", window="daily"), Cap(id="calls", limit=2, unit="requests")]
    await verb(guard, "override", user="u1", caps=caps, until=clock.now + timedelta(days=2))
    assert guard.reserve(user="u1", cost=0).caps == ("monthly", "day", "calls")
    assert guard.reserve(user="u2", cost=0).caps == ("monthly",)
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(user="u1", cost="0.3")
    assert [cap.id for cap in refused.value.caps] == ["day"]
    clock.advance(days=2)
    assert guard.reserve(user="u1", cost="0.3").caps == ("monthly",)


async def test_clearing(opened: Opened, verb: Verb) -> None:
    """One cap's override, then all of them; each is an entry in the journal."""
    guard = opened(ONE)
    for cap in ("a", "b"):
        guard.override(user="u1", caps=[Cap(id=cap, limit=5)])
    guard.override(user="u1", cap="monthly", limit=3)
    guard.override(user="u1", cap="monthly", limit=4)
    assert limit(guard) == 4
    await verb(guard, "clear_override", user="u1", cap="monthly")
    assert (limit(guard), guard.reserve(user="u1", cost=0).caps) == (1, ("monthly", "a", "b"))
    revision = await verb(guard, "clear_override", user="u1", by="ops")
    assert guard.reserve(user="u1", cost=0).caps == ("monthly",)
    assert guard.clear_override(user="u1") == revision


def test_a_repeated_override_changes_nothing(opened: Opened) -> None:
    guard = opened(ONE)
    first = guard.override(user="u1", cap="monthly", limit=3)
    assert guard.override(user="u1", cap="monthly", limit=3) == first
    assert kinds(guard) == ["override"]


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({}, ValueError, "override takes cap="),
        ({"cap": "monthly", "caps": [Cap(id="x", limit=1)]}, ValueError, "override takes cap="),
        ({"cap": "monthly"}, ValueError, "nothing to change"),
        ({"caps": [Cap(id="x", limit=1)], "limit": 5}, ValueError, "every field stands in the Cap"),
        ({"caps": [{"id": "x", "limit": 1}]}, ValueError, "a list of Caps"),
        ({"cap": "montly", "limit": 5}, PolicyError, r"no cap 'montly' to change; allowed: .*monthly"),
        ({"cap": "monthly", "limit": -1}, PolicyError, "limit"),
        ({"cap": "monthly", "limit": 10_000_000}, PolicyError, "more than the ledger counts"),
        ({"cap": "monthly", "lmit": 5}, PolicyError, "lmit"),
        ({"cap": "monthly", "max_wait": 5}, PolicyError, r"cap 'monthly'.max_wait: .* only with action = 'throttle'"),
        ({"cap": "monthly", "unit": "creditz"}, PolicyError, "unknown unit 'creditz'"),
        ({"cap": "tokens", "limit": "0.5"}, PolicyError, "a whole number"),
        ({"cap": "monthly", "window": "fortnightly"}, PolicyError, "fortnightly"),
        ({"cap": "monthly", "limit": 5, "until": datetime(2027, 1, 1)}, ValueError, "aware datetime"),  # noqa: DTZ001
        ({"cap": "monthly", "limit": 5, "user": "a\n"}, ValueError, r"U\+000A"),
    ],
)
async def test_an_override_that_makes_no_sense(
    opened: Opened, verb: Verb, fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Refused where it is made, with what is allowed; nobody's calls ever meet it."""
    guard = opened(PLANS)
    with pytest.raises(error, match=message):
        await verb(guard, "override", **{"user": "u1", **fields})
    assert kinds(guard) == []
    guard.reserve(user="u1", cost=0)


def test_an_override_of_another_plans_cap_waits_for_that_plan(opened: Opened) -> None:
    """It changes that cap and adds none of its own."""
    guard = opened(PLANS)
    guard.override(user="u1", cap="tokens", limit=20)
    guard.assign(user="u1", plan="pro")
    assert guard.reserve(user="u1", cost=0).caps == ("monthly", "all")
    guard.assign(user="u1", plan=None)
    assert guard.status(user="u1").caps["tokens"].limit == 20


def test_an_override_that_fits_no_more_is_left_out(two: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The published policy changed under it: the policy holds, and calls go on."""
    throttle = {"id": "rpm", "limit": 5, "unit": "requests", "action": "throttle"}
    here, there = two({"caps": [throttle]})
    here.override(user="u1", cap="rpm", max_wait=5)
    here.publish({"caps": [{**throttle, "action": "block"}]})
    there.reserve(user="u1", cost=0)
    assert "'rpm' does not fit the cap any more" in caplog.text


# precedence


@pytest.mark.parametrize(
    ("user", "plan", "steps", "expected"),
    [
        ("u1", None, [], 1),  # the default plan
        ("u1", "pro", [], 10),  # the call's plan
        ("ann", None, [], 2),  # the file's change for a user
        ("ann", "pro", [], 2),
        ("bob", None, [], 10),  # the file's plan for a user
        ("bob", None, [("assign", {"plan": "free"})], 1),  # what was said at run time comes before it
        ("u1", None, [("assign", {"plan": "pro"})], 10),
        ("u1", "free", [("assign", {"plan": "pro"})], 1),  # what the call says comes first
        ("u1", "typo", [("assign", {"plan": "pro"})], 1),  # unknown: the default
        ("u1", None, [("assign", {"plan": "pro"}), ("assign", {"plan": None})], 1),
        ("ann", None, [("assign", {"plan": "pro"})], 2),
        ("u1", None, [("override", {"cap": "monthly", "limit": 7})], 7),
        ("ann", "pro", [("override", {"cap": "monthly", "limit": 7})], 7),  # override > plan > default
        ("u1", "pro", [("override", {"cap": "monthly", "limit": 7}), ("clear_override", {})], 10),
    ],
)
async def test_precedence(
    opened: Opened, verb: Verb, user: str, plan: str | None, steps: list[tuple[str, dict[str, Any]]], expected: int
) -> None:
    guard = opened(PLANS)
    for name, fields in steps:
        await verb(guard, name, user=user, **fields)
    assert limit(guard, user, plan=plan) == expected
    assert guard.status(user=user, plan=plan).caps["monthly"].limit == expected


async def test_a_plan_that_does_not_exist(opened: Opened, verb: Verb) -> None:
    guard = opened(PLANS)
    with pytest.raises(ValueError, match="'gold' is not in the policy; allowed: free, pro"):
        await verb(guard, "assign", user="u1", plan="gold")


# published policies


def test_a_published_policy_holds_everywhere(two: Any) -> None:
    """At the next call of a process that was never told; earlier revisions are kept with who, when and why."""
    here, there = two(ONE)
    assert (limit(here), limit(there)) == (1, 1)
    assert here.publish({"caps": [{"id": "monthly", "limit": 5}]}, base=1, by="ops", why="spring") == 2
    assert limit(there) == 5
    assert there.publish(Policy(caps=[Cap(id="monthly", limit=4)]), base=2) == 3
    assert limit(here) == 4
    told = [(each.revision, each.by, each.why) for each in here.history()]
    assert sorted(told) == [(1, None, "initial policy"), (2, "ops", "spring"), (3, None, None)]


async def test_publishing_against_an_old_revision(two: Any, verb: Verb) -> None:
    """Refused with the revision that is in force, which stays."""
    here, there = two(ONE)
    await verb(there, "publish", {"caps": [{"id": "monthly", "limit": 5}]})
    with pytest.raises(PolicyError, match="the policy in force is revision 2"):
        await verb(here, "publish", {"caps": [{"id": "monthly", "limit": 6}]}, base=1)
    assert (limit(here), limit(there)) == (5, 5)


def test_publishing_what_is_in_force_changes_nothing(two: Any) -> None:
    here, _ = two(ONE)
    assert here.publish(ONE) == here.publish(ONE) == 1
    assert kinds(here) == ["publish"]


def test_a_policy_that_is_refused_leaves_the_one_in_force(two: Any) -> None:
    """With every finding at once."""
    here, there = two(ONE)
    with pytest.raises(PolicyError) as refused:
        here.publish({"caps": [{"id": "x", "limit": -1}, {"id": "x", "limit": 1, "window": "never"}]})
    assert len(refused.value.findings) == 3
    assert (limit(here), limit(there)) == (1, 1)


def test_the_first_policy_is_published_once(two: Any, tmp_path: Any, clock: ManualClock) -> None:
    """Later processes take what is there, whatever they would have begun with; none at all is an error."""
    here, _ = two(ONE)
    here.publish({"caps": [{"id": "monthly", "limit": 5}]})
    with Guard(f"sqlite:///{tmp_path}/ledger.db?timeout=30", initial_policy=ONE, clock=clock) as later:
        assert limit(later) == 5
    with Guard(f"sqlite:///{tmp_path}/ledger.db?timeout=30", clock=clock) as later:
        assert limit(later) == 5
    with pytest.raises(PolicyError, match="no policy: pass policy="):
        Guard("memory://")


def test_disabled_with_the_backends_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where capguard is switched off nothing is asked of a backend, not even for a policy; steering is accepted."""
    monkeypatch.setenv("CAPGUARD_DISABLED", "1")
    with Guard("sqlite:////nowhere/ledger.db") as guard:
        guard.settle(guard.reserve(user="u1", cost=1), cost=2)
        guard.grant(user="u1", amount=5)
        assert guard.publish(ONE) == 1


def test_a_process_with_its_own_policy(two: Any, tmp_path: Any, clock: ManualClock) -> None:
    """It is the truth there: publishing is refused with the way out, publishing elsewhere means nothing to it.

    Overrides, grants and plans live in the backend for everybody.
    """
    here, _ = two(PLANS)
    with Guard(f"sqlite:///{tmp_path}/ledger.db?timeout=30", policy=PLANS, clock=clock) as own:
        with pytest.raises(PolicyError, match="make it without policy="):
            own.publish(ONE)
        here.publish({**PLANS, "caps": []})
        assert own.reserve(user="u1", cost=0).caps == ("monthly", "tokens", "all")
        assert limit(own) == 1
        here.override(user="u1", cap="monthly", limit=3)
        assert limit(own) == 3
        here.assign(user="u1", plan="pro")
        own.clear_override(user="u1")
        assert (limit(own), limit(here)) == (10, 10)
        own.grant(user="u1", amount=5, id="g")
        assert [grant.id for grant in here.status(user="u1").grants] == ["g"]


def test_every_change_holds_at_the_next_call_of_the_other(two: Any, clock: ManualClock) -> None:
    """Whichever verb of whichever process looked last."""
    here, there = two(PLANS)
    for guard in (here, there):
        guard.reserve(user="u1", cost=0)
    here.override(user="u1", cap="monthly", limit=3)
    assert there.check(user="u1", cost=3)
    there.override(user="u1", cap="monthly", limit="0.5")
    assert not here.check(user="u1", cost="0.6")
    assert not here.allow(user="u1", amount="0.6")
    there.clear_override(user="u1")
    here.publish({**PLANS, "plans": {**PLANS["plans"], "team": {"caps": []}}})
    there.assign(user="u1", plan="team")
    assert here.reserve(user="u1", cost=0).caps == ("all",)
    here.grant(user="u1", amount=5, id="g")
    spend(there, 2)
    assert here.status(user="u1").grants[0].settled == 2
    there.revoke(user="u1", id="g")
    spend(here, 2)
    assert [entry.body["shares"][-1] for entry in here.entries() if entry.body.get("sources")] == [0]


def test_a_lowered_limit_never_breaks_a_call_in_flight(two: Any) -> None:
    """It settles, and what it cost within its own limit is no overrun; the next call meets the new limit."""
    here, there = two(ONE)
    reservation = here.reserve(user="u1", cost="0.9")
    there.override(user="u1", cap="monthly", limit="0.1")
    there.publish({"caps": [{"id": "monthly", "limit": "0.2"}]})
    here.extend(reservation, ttl=600)
    settlement = here.settle(reservation, cost="0.9")
    assert (settlement.overrun, settlement.conflict) == (0, False)
    with pytest.raises(CapExceeded):
        here.reserve(user="u1", cost="0.01")


@pytest.mark.parametrize("steer", ["assign", "publish"])
def test_a_new_plan_never_breaks_a_call_in_flight(two: Any, steer: str) -> None:
    """Not even one that takes the call's caps away, or its model's price."""
    here, there = two(PLANS)
    reservation = here.reserve(user="u1", model="big", prompt="x", max_tokens=1)
    if steer == "assign":
        there.assign(user="u1", plan="pro")
    else:
        there.publish({"failure": {"unknown_model": "deny"}})
    here.settle(reservation, usage=Usage(input_tokens=5))
    assert last(here).cost == Decimal("0.00005")


def test_a_replay_after_a_change_keeps_its_rates(two: Any) -> None:
    """The same id gets the reservation that was made, booked at the prices of that day."""
    here, there = two({"prices": PRICES})
    call = {"user": "u1", "model": "big", "prompt": "x", "max_tokens": 1, "id": "once"}
    here.reserve(**call)
    there.publish({"prices": {"big": {"input": 100, "output": 100}}})
    there.settle(there.reserve(**call), usage=Usage(input_tokens=5))
    assert last(here).cost == Decimal("0.00005")


def test_who_when_and_why_are_in_the_journal(opened: Opened, clock: ManualClock) -> None:
    """Every change of what holds is an entry of the user whom it is about."""
    guard = opened(None, initial_policy=PLANS)
    told = {"by": "ops", "why": "because"}
    guard.override(user="u1", cap="monthly", limit=3, **told)
    guard.clear_override(user="u1", cap="monthly", **told)
    guard.assign(user="u1", plan="pro", **told)
    guard.grant(user="u1", amount=1, id="g", **told)
    guard.revoke(user="u1", id="g", **told)
    guard.publish(ONE, **told)
    entries = list(guard.entries())[1:]
    assert [(entry.kind, entry.user) for entry in entries] == [
        ("override", "u1"), ("clear_override", "u1"), ("assign", "u1"), ("grant", "u1"), ("revoke", "u1"),
        ("publish", None),
    ]  # fmt: skip
    assert {(entry.body["by"], entry.body["why"], entry.at) for entry in entries} == {("ops", "because", clock.now)}
    assert [entry.body["revision"] for entry in entries] == [1, 2, 3, 4, 5, 2]
    assert entries[0].body["change"]["cap"] == {"id": "monthly", "limit": "3"}


# backfill

OLD: dict[str, Any] = {
    "default_plan": "pro",
    "plans": {"pro": {"included": {"amount": 10}, "caps": [{"id": "old", "limit": 1000}]}},
    "prices": PRICES,
}


def with_caps(*caps: dict[str, Any]) -> dict[str, Any]:
    return {**OLD, "caps": list(caps)}


def booked(guard: Guard, clock: ManualClock) -> None:
    """Of u1 on the 3rd $12, 2 for chat, 1 that expired and 1 that settled late; today 3, 1 on "big", one released."""
    guard.grant(user="u1", amount=3, id="g")
    clock.advance(days=1)
    spend(guard, 12)
    assert guard.allow(user="u1", amount=2, feature="chat")
    guard.reserve(user="u1", cost=1)
    is_late, taken_back = guard.reserve(user="u1", cost=5), guard.reserve(user="u1", cost=4)
    clock.advance(days=12)
    guard.release(guard.reserve(user="u1", cost=1))
    guard.settle(is_late, cost=1)
    guard.release(taken_back)
    spend(guard, 3)
    spend(guard, 1, model="big")
    spend(guard, 7, user="u2")


@pytest.mark.parametrize(
    ("cap", "shows"),
    [
        ({}, 20),
        ({"overage_only": True}, 10),
        ({"ignore_grants": True}, 17),
        ({"overage_only": True, "ignore_grants": True}, 7),
        ({"window": "daily"}, 4),
        ({"window": "weekly:mon"}, 4),
        ({"window": "lifetime"}, 20),
        ({"window": "rolling:1h"}, 4),
        ({"window": "rolling:14d"}, 20),
        ({"match": {"model": "big"}}, 1),
        ({"match": {"feature": "chat"}}, 2),
        ({"per": []}, 27),
        ({"per": ["plan"]}, 27),
        ({"per": ["team"], "required": True}, None),
        ({"unit": "requests"}, 6),
        ({"unit": "tokens"}, 0),
    ],
)
async def test_backfill(opened: Opened, clock: ManualClock, verb: Verb, cap: dict[str, Any], shows: int | None) -> None:
    """A new cap begins with what was booked in its period: late settles as they stand, nothing that is not booked."""
    clock.set(datetime(2026, 1, 2, 12, tzinfo=UTC))
    guard = opened(None, initial_policy=OLD)
    booked(guard, clock)
    guard.reserve(user="u1", cost=1)
    new = {"id": "new", "limit": 1000, **cap}
    await verb(guard, "publish", with_caps(new), backfill=True)
    states = {state.id: state.settled for state in guard.status(user="u1", feature="chat").caps}
    assert states == {"old": 20, **({} if shows is None else {"new": shows})}
    if shows is not None and "unit" not in cap:
        spend(guard, 1, model="big", feature="chat")
        assert guard.status(user="u1", feature="chat").caps["new"].settled == shows + 1


def test_without_backfill_a_new_cap_begins_at_nothing(opened: Opened, clock: ManualClock) -> None:
    guard = opened(None, initial_policy=OLD)
    booked(guard, clock)
    guard.publish(with_caps({"id": "new", "limit": 1000}))
    assert spent(guard, "new") == 0
    assert guard.publish(with_caps({"id": "new", "limit": 1000}), backfill=True) == 2
    assert spent(guard, "new") == 0


def test_backfill_leaves_what_is_there(opened: Opened, clock: ManualClock) -> None:
    """A cap with another limit is no new cap, and a meter that counted before is not filled up."""
    guard = opened(None, initial_policy=OLD)
    cap = {"id": "new", "limit": 1000}
    spend(guard, 1)
    guard.publish(with_caps(cap))
    spend(guard, 2)
    guard.publish(with_caps({**cap, "limit": 500}), backfill=True)
    assert spent(guard, "new") == 2
    guard.publish(OLD)
    spend(guard, 4)
    guard.publish(with_caps(cap), backfill=True)
    assert spent(guard, "new") == 2


def test_backfill_opens_no_closed_period(opened: Opened, clock: ManualClock) -> None:
    """Each cap takes in its own current period, however far back another one looks."""
    guard = opened(None, initial_policy=OLD)
    spend(guard, 1)
    clock.advance(days=1)
    spend(guard, 2)
    guard.publish(with_caps({"id": "d", "limit": 9, "window": "daily"}, {"id": "m", "limit": 9}), backfill=True)
    assert (spent(guard, "d"), spent(guard, "m"), len(last(guard).body["moves"])) == (2, 3, 2)


def test_backfill_is_for_new_caps(opened: Opened) -> None:
    """One that matches other calls than before is no new cap: what it did not count it does not count now."""
    guard = opened(None, initial_policy=with_caps({"id": "new", "limit": 9, "match": {"model": "big"}}))
    spend(guard, 1, model="small")
    guard.publish(with_caps({"id": "new", "limit": 9, "match": {"model": "small"}}), backfill=True)
    assert spent(guard, "new") == 0


def test_backfill_takes_in_what_is_booked_meanwhile(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the reading of the journal and the publishing: the fold goes on from there, nothing is lost."""
    here, there = two(OLD)
    spend(here, 1)
    execute, booked = here._backend.execute, []

    def busy(command: Any) -> Any:
        if type(command).__name__ == "Publish" and len(booked) < 3:
            booked.append(there.allow(user="u1", amount=1))
        return execute(command)

    monkeypatch.setattr(here._backend, "execute", busy)
    here.publish(with_caps({"id": "new", "limit": 1000}), backfill=True)
    assert (len(booked), spent(there, "new")) == (3, 4)


def test_backfill_of_a_ledger_that_never_rests(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives up after some rounds and publishes nothing."""
    here, there = two(OLD)
    execute = here._backend.execute

    def busy(command: Any) -> Any:
        if type(command).__name__ == "Publish":
            there.allow(user="u1", amount=1)
        return execute(command)

    monkeypatch.setattr(here._backend, "execute", busy)
    with pytest.raises(BackendUnavailable, match="nothing is published"):
        here.publish(with_caps({"id": "new", "limit": 1000}), backfill=True)
    assert "new" not in there.status(user="u1").caps


def test_backfill_of_many_meters(opened: Opened) -> None:
    """A page of them per entry; the journal rebuilds every one."""
    guard = opened(None, initial_policy={})
    for number in range(501):
        assert guard.allow(user=f"u{number}", amount=number % 7)
    guard.publish({"caps": [{"id": "a", "limit": 9}, {"id": "b", "limit": 9, "per": []}]}, backfill=True)
    assert [guard.status(user=f"u{number}").caps["a"].settled for number in (0, 1, 6, 500)] == [0, 1, 6, 3]
    assert guard.status().caps["b"].settled == sum(number % 7 for number in range(501))
    assert kinds(guard)[-2:] == ["publish", "backfill"]


# whom a cap counts

TREE = [
    {"id": "org", "limit": 8, "per": ["org"]},
    {"id": "team", "limit": 5, "per": ["team"]},
    {"id": "user", "limit": 3, "per": ["user"]},
    {"id": "key", "limit": 2, "per": ["key_id"]},
]


@pytest.mark.parametrize(
    ("spends", "call", "refusing"),
    [
        ([], {}, []),
        ([(1, {})], {}, ["key"]),
        ([(2, {"key_id": "k2"})], {}, ["user"]),
        ([(1, {}), (1, {"key_id": "k2"})], {"key_id": "k3"}, ["user"]),
        ([(2, {"user": "u2", "key_id": "k2"}), (2, {"user": "u3", "key_id": "k3"})], {}, ["team"]),
        ([(2, {"team": "t2", "user": f"u{n}", "key_id": f"k{n}"}) for n in (2, 3, 4, 5)], {}, ["org"]),
        ([(2, {})], {}, ["user", "key"]),
        ([(2, {})], {"user": "u9", "key_id": "k9"}, []),
        ([(2, {})], {"user": "u9"}, ["key"]),
    ],
)  # fmt: skip
def test_a_hierarchy_is_held_together(
    opened: Opened, spends: list[tuple[int, dict[str, str]]], call: dict[str, str], refusing: list[str]
) -> None:
    """All of org, team, user and key, or none: whoever refuses is named, and nothing is held."""
    guard = opened({"caps": TREE})
    who = {"org": "o", "team": "t", "user": "u1", "key_id": "k1"}
    for amount, other in spends:
        named = {**who, **other}
        guard.allow(**named, amount=amount) or guard.settle(guard.reserve(**named, cost=0), cost=amount)
    named = {**who, **call}
    before = [cap.held for cap in guard.status(**named).caps]
    if not refusing:
        assert guard.reserve(**named, cost=2).caps == ("org", "team", "user", "key")
        return
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(**named, cost=2)
    assert [cap.id for cap in refused.value.caps] == refusing
    assert [cap.held for cap in guard.status(**named).caps] == before == [0, 0, 0, 0]


def test_what_is_not_named_is_not_counted(opened: Opened) -> None:
    """A call without a team meets no team's cap, one that requires it is refused; looking never is."""
    guard = opened({"caps": [*TREE, {"id": "must", "limit": 1, "per": ["feature"], "required": True}]})
    assert guard.reserve(user="u1", feature="f", cost=0).caps == ("user", "must")
    with pytest.raises(IdentityMissing, match="'must' counts per feature"):
        guard.reserve(user="u1", cost=0)
    assert [cap.id for cap in guard.status(user="u1").caps] == ["user"]
    guard.grant(user="u1", amount=1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"user": "a", "feature": "b:c"}, {"user": "a:b", "feature": "c"}),
        ({"user": "a", "feature": "b"}, {"user": 'a","b', "feature": ""}),
        ({"user": "a"}, {"user": "A"}),
        ({"user": "a"}, {"user": "a "}),
        ({"user": "é"}, {"user": "e\u0301"}),
        ({"user": "null"}, {"user": None}),
    ],
)
def test_look_alikes_share_no_meter(opened: Opened, one: dict[str, Any], other: dict[str, Any]) -> None:
    """Neither two identities whose values look alike when joined, nor two caps."""
    caps = [{"id": "c", "limit": 1}, {"id": "both", "limit": 1, "per": ["user", "feature"]}]
    guard = opened({"caps": caps, "failure": {"missing_identity": "anonymous"}})
    spend(guard, 1, **{**one, "feature": one.get("feature", "x")})
    named = {name: value for name, value in other.items() if value}
    guard.reserve(cost="0.5", **named)


def test_sessions(opened: Opened) -> None:
    """An agent run is a session: its cap counts all its calls, and no other run's."""
    run = {"id": "run", "limit": 1, "per": ["session"], "window": "lifetime", "idle": "1h"}
    guard = opened({"caps": [run]})
    for session in ("s1", "s2"):
        with identify(user="u1", session=session):
            guard.reserve(cost="0.9")
            with pytest.raises(CapExceeded, match="run"):
                guard.reserve(cost="0.2")
    guard.reserve(user="u1", cost=5)


@pytest.mark.parametrize("place", ["call", "identify", "both"])
async def test_caps_of_one_call_or_run(opened: Opened, verb: Verb, place: str) -> None:
    """Beside the policy's, each once however often it is named; all of them are held."""
    guard = opened(ONE)
    run = Cap(id="run", limit="0.5", per=[])
    here = {"caps": [run]} if place != "identify" else {}
    with identify(user="u1", caps=[run] if place != "call" else []):
        for admitted in (True, False):
            if admitted:
                reservation = await verb(guard, "reserve", cost="0.4", **here)
                assert reservation.caps == ("monthly", "run")
                continue
            with pytest.raises(CapExceeded) as refused:
                await verb(guard, "reserve", cost="0.4", **here)
            assert [cap.id for cap in refused.value.caps] == ["run"]
        if not here:
            assert guard.status().caps["run"].held == Decimal("0.4")
    assert (await verb(guard, "reserve", user="u1", cost="0.5")).caps == ("monthly",)


def test_a_cap_of_one_call_has_an_id_of_its_own(opened: Opened) -> None:
    """With one that is in use both would count on one meter."""
    guard = opened(ONE)
    with pytest.raises(ValueError, match="monthly is in the policy already"):
        guard.reserve(user="u1", cost=0, caps=[Cap(id="monthly", limit=5)])
    with pytest.raises(ValueError, match="x stands twice, differently"):
        guard.reserve(user="u1", cost=0, caps=[Cap(id="x", limit=5), Cap(id="x", limit=6)])


def test_an_override_is_laid_over_caps_of_everybody(opened: Opened) -> None:
    """A cap for everybody together has one meter; only its limit differs for this user."""
    guard = opened(PLANS)
    guard.override(user="u1", cap="all", limit="0.5")
    spend(guard, "0.4", user="u2")
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(user="u1", cost="0.2")
    assert (refused.value.cap.id, refused.value.cap.settled) == ("all", Decimal("0.4"))
    guard.reserve(user="u2", cost="0.2")
