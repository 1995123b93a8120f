"""Who pays: the included allowance, then grants, then nobody. What each cap counts of it, and the example world."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capguard import Cap, CapExceeded, Guard, IdempotencyMismatch, PolicyError
from capguard.arguments import read_request
from capguard.errors import UnknownReservation
from capguard.states import SourceState
from capguard.testing import ManualClock
from tests.kit import PRICES

Opened = Callable[..., Guard]
Verb = Callable[..., Any]

ALL, OVER, NOGRANT, BOTH = "all", "over", "nogrant", "both"
KINDS = {
    ALL: {},
    OVER: {"overage_only": True},
    NOGRANT: {"ignore_grants": True},
    BOTH: {"overage_only": True, "ignore_grants": True},
}


def plan(included: Any = 10, **limits: Any) -> dict[str, Any]:
    """A plan with an allowance, and a cap of each kind that says what it counts; `limits` by kind."""
    caps = [{"id": id, "limit": limits.get(id, 1000), **fields} for id, fields in KINDS.items()]
    allowance = {} if included is None else {"included": {"amount": included}}
    return {"caps": caps, **allowance}


def policy(included: Any = 10, **limits: Any) -> dict[str, Any]:
    return {"default_plan": "pro", "plans": {"pro": plan(included, **limits)}, "prices": PRICES}


def spend(guard: Guard, amount: Any, **call: Any) -> None:
    guard.settle(guard.reserve(user="u1", cost=amount, **call), cost=amount)


def counted(guard: Guard, user: str = "u1") -> dict[str, Decimal]:
    """What is settled on the cap of each kind."""
    return {cap.id: cap.settled for cap in guard.status(user=user).caps}


def paid(guard: Guard, user: str = "u1") -> dict[str, Decimal]:
    """What is settled on each source."""
    status = guard.status(user=user)
    sources = [*([status.included] if status.included else []), *status.grants]
    return {source.id: source.settled for source in sources if source.settled}


@pytest.fixture(params=["sync", "async"])
def verb(request: pytest.FixtureRequest) -> Verb:
    """`await verb(guard, "settle", ...)`: the sync or the async one of both."""

    async def call(guard: Guard, name: str, *args: Any, **fields: Any) -> Any:
        if request.param == "sync":
            return getattr(guard, name)(*args, **fields)
        return await getattr(guard, f"a{name}")(*args, **fields)

    return call


# the waterfall

GRANTS = {
    "one": [{"id": "one", "amount": 5}],
    "priority": [{"id": "late", "amount": 5, "priority": 1}, {"id": "first", "amount": 5, "priority": -1}],
    "expiry": [
        {"id": "never", "amount": 5},
        {"id": "year", "amount": 5, "days": 365},
        {"id": "week", "amount": 5, "days": 7},
    ],
    "priority over expiry": [{"id": "week", "amount": 5, "days": 7, "priority": 1}, {"id": "never", "amount": 5}],
    "age": [{"id": "z-older", "amount": 5}, {"id": "a-younger", "amount": 5}],
    "none": [],
}


@pytest.mark.parametrize(
    ("grants", "amount", "draws"),
    [
        ("none", 4, {"included": 4}),
        ("none", 12, {"included": 10}),
        ("one", 10, {"included": 10}),
        ("one", 12, {"included": 10, "one": 2}),
        ("one", 15, {"included": 10, "one": 5}),
        ("one", 20, {"included": 10, "one": 5}),
        ("priority", 13, {"included": 10, "first": 3}),
        ("priority", 17, {"included": 10, "first": 5, "late": 2}),
        ("expiry", 11, {"included": 10, "week": 1}),
        ("expiry", 16, {"included": 10, "week": 5, "year": 1}),
        ("expiry", 30, {"included": 10, "week": 5, "year": 5, "never": 5}),
        ("priority over expiry", 12, {"included": 10, "never": 2}),
        ("age", 12, {"included": 10, "z-older": 2}),
    ],
)
async def test_who_pays(
    opened: Opened, clock: ManualClock, verb: Verb, grants: str, amount: int, draws: dict[str, int]
) -> None:
    """Included, then grants by priority, expiry, age, each as far as it goes; each cap leaves out what it says."""
    guard = opened(policy())
    for terms in GRANTS[grants]:
        days = terms.get("days")
        given = {name: value for name, value in terms.items() if name != "days"}
        await verb(guard, "grant", user="u1", until=days and clock.now + timedelta(days=days), **given)
        clock.advance(seconds=1)
    await verb(guard, "settle", await verb(guard, "reserve", user="u1", cost=amount), cost=amount)
    included, granted = draws["included"], sum(draws.values()) - draws["included"]
    assert paid(guard) == draws
    assert counted(guard) == {
        ALL: amount,
        OVER: amount - included,
        NOGRANT: amount - granted,
        BOTH: amount - included - granted,
    }


async def test_one_step_pays_as_two_do(opened: Opened, verb: Verb) -> None:
    """`allow` decides and books with the same waterfall."""
    guard = opened(policy(**{BOTH: 1}))
    guard.grant(user="u1", amount=5, id="g")
    assert await verb(guard, "allow", user="u1", amount=16)
    assert not await verb(guard, "allow", user="u1", amount="0.01")
    assert (paid(guard), counted(guard)[BOTH]) == ({"included": 10, "g": 5}, 1)


@pytest.mark.parametrize(("kind", "most"), [(ALL, 0), (OVER, 10), (NOGRANT, 5), (BOTH, 15)])
def test_what_a_cap_of_nothing_lets_through(opened: Opened, kind: str, most: int) -> None:
    """A limit of 0 leaves exactly what the cap does not count; one nano-dollar more is refused, and nothing moves."""
    included = most - 5 if kind == BOTH else most if kind == OVER else None
    guard = opened(policy(included, **{kind: 0}))
    if kind in (NOGRANT, BOTH):
        guard.grant(user="u1", amount=5, id="g")
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(user="u1", cost=Decimal(most) + Decimal("0.000000001"))
    assert (refused.value.cap.id, refused.value.cap.requested) == (kind, Decimal("0.000000001"))
    guard.reserve(user="u1", cost=most)


def test_parallel_calls_share_one_allowance(opened: Opened) -> None:
    """20 threads, $1 each, $10 included and $5 of overage allowed: exactly 15 are held."""
    guard = opened(policy(**{OVER: 5}))

    def ask(_: int) -> bool:
        try:
            guard.reserve(user="u1", cost=1)
        except CapExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(20))) == 15


# provisional splits


def test_the_split_at_reserve_is_provisional(opened: Opened) -> None:
    """What an earlier call gives back pays for a later one, whoever held it at first."""
    guard = opened(policy())
    first, second = guard.reserve(user="u1", cost=8), guard.reserve(user="u1", cost=8)
    assert guard.status(user="u1").caps[OVER].held == 6
    guard.settle(first, cost=1)
    guard.settle(second, cost=8)
    assert (paid(guard), counted(guard)[OVER]) == ({"included": 9}, 0)


def test_what_a_call_holds_is_its_own(opened: Opened) -> None:
    """A dearer neighbour does not take it, and a settled split is never revisited."""
    guard = opened(policy())
    first, second = guard.reserve(user="u1", cost=8), guard.reserve(user="u1", cost=2)
    guard.settle(second, cost=10)
    assert (paid(guard), counted(guard)[OVER]) == ({"included": 2}, 8)
    guard.settle(first, cost=8)
    assert (paid(guard), counted(guard)[OVER]) == ({"included": 10}, 8)


def test_a_release_gives_everything_back(opened: Opened) -> None:
    guard = opened(policy())
    guard.grant(user="u1", amount=5, id="g")
    guard.release(guard.reserve(user="u1", cost=18))
    assert (paid(guard), counted(guard)) == ({}, dict.fromkeys(KINDS, 0))
    assert [cap.held for cap in guard.status(user="u1").caps] == [0, 0, 0, 0]


@pytest.mark.parametrize(("cost", "included", "granted"), [(3, 3, 0), (12, 10, 2), (30, 10, 5)])
def test_a_late_settle_pays_anew(opened: Opened, clock: ManualClock, cost: int, included: int, granted: int) -> None:
    """An expired call has its expectation booked from the sources; the settle that comes later replaces that, once."""
    guard = opened(policy())
    guard.grant(user="u1", amount=5, id="g")
    reservation = guard.reserve(user="u1", cost=12)
    clock.advance(hours=1)
    guard.reserve(user="u1", cost=0)
    assert paid(guard) == {"included": 10, "g": 2}
    settled = guard.settle(reservation, cost=cost)
    assert settled.late
    assert paid(guard) == {name: amount for name, amount in (("included", included), ("g", granted)) if amount}
    assert counted(guard)[BOTH] == cost - included - granted
    assert guard.settle(reservation, cost=cost).entry_id == settled.entry_id


def test_a_release_after_expiry_takes_back_what_was_booked(opened: Opened, clock: ManualClock) -> None:
    guard = opened(policy())
    reservation = guard.reserve(user="u1", cost=12)
    clock.advance(hours=1)
    guard.release(reservation)
    assert (paid(guard), counted(guard)) == ({}, dict.fromkeys(KINDS, 0))


def test_a_settle_after_release_pays_in_full(opened: Opened) -> None:
    guard = opened(policy())
    reservation = guard.reserve(user="u1", cost=12)
    guard.release(reservation)
    assert guard.settle(reservation, cost=12).late
    assert (paid(guard), counted(guard)[OVER]) == ({"included": 10}, 2)


def test_an_extension_is_funded_too(opened: Opened) -> None:
    """A raise draws on what is left of the sources, and is refused by the cap that counts the rest."""
    guard = opened(policy(**{OVER: 1}))
    reservation = guard.reserve(user="u1", cost=5)
    guard.extend(reservation, amount=11)
    included = guard.status(user="u1").included
    assert (included and included.held, guard.status(user="u1").caps[OVER].held) == (10, 1)
    with pytest.raises(CapExceeded):
        guard.extend(reservation, amount=12)
    guard.settle(reservation, cost=4)
    assert (paid(guard), counted(guard)[OVER]) == ({"included": 4}, 0)


# the end of a grant


@pytest.mark.parametrize("end", ["expires", "is revoked"])
@pytest.mark.parametrize(("cost", "granted"), [(3, 3), (5, 5), (9, 5)])
async def test_a_grant_that_ends_while_held(
    opened: Opened, clock: ManualClock, verb: Verb, end: str, cost: int, granted: int
) -> None:
    """It still pays its held part, nothing beyond; what comes back to it lapses."""
    guard = opened(policy(None))
    await verb(guard, "grant", user="u1", amount=8, id="g", until=clock.now + timedelta(seconds=60))
    reservation = await verb(guard, "reserve", user="u1", cost=5)
    if end == "expires":
        clock.advance(seconds=60)
    else:
        await verb(guard, "revoke", user="u1", id="g")
    await verb(guard, "settle", reservation, cost=cost)
    assert counted(guard)[NOGRANT] == cost - granted
    await verb(guard, "settle", await verb(guard, "reserve", user="u1", cost=2), cost=2)
    assert counted(guard)[NOGRANT] == cost - granted + 2
    assert guard.status(user="u1").grants == ()


def test_what_a_late_settle_returns_to_an_ended_grant_lapses(opened: Opened, clock: ManualClock) -> None:
    guard = opened(policy(None))
    guard.grant(user="u1", amount=8, id="g")
    reservation = guard.reserve(user="u1", cost=5)
    clock.advance(hours=1)
    guard.reserve(user="u1", cost=0)
    guard.revoke(user="u1", id="g")
    guard.settle(reservation, cost=2)
    assert counted(guard)[NOGRANT] == 0
    guard.settle(guard.reserve(user="u1", cost=1), cost=1)
    assert counted(guard)[NOGRANT] == 1


def test_a_grant_ends_to_the_millisecond(opened: Opened, clock: ManualClock) -> None:
    """Until its end it pays, from its end on it does not, with no command in between that told anybody."""
    guard = opened(policy(None))
    guard.grant(user="u1", amount=8, id="g", until=clock.now + timedelta(seconds=60))
    clock.advance(milliseconds=59_999)
    spend(guard, 1)
    clock.advance(milliseconds=1)
    spend(guard, 1)
    assert counted(guard) == {ALL: 2, OVER: 2, NOGRANT: 1, BOTH: 1}


def test_a_top_up_never_expires(opened: Opened, clock: ManualClock) -> None:
    guard = opened(policy())
    guard.grant(user="u1", amount=5, id="top-up")
    clock.advance(days=4000)
    spend(guard, 12)
    assert paid(guard) == {"included": 10, "top-up": 2}


# grants that are used up


def carried(guard: Guard) -> list[str]:
    """The sources that the newest call carries."""
    made = [entry for entry in guard.entries() if entry.kind in ("reserve", "book")]
    return [leg[5] for leg in made[-1].body["sources"]]


async def test_top_ups_make_no_call_longer(opened: Opened, clock: ManualClock, verb: Verb) -> None:
    """A weekly top-up that never expires is carried until it is used up; its id is taken for good."""
    guard = opened(policy(included=None))
    for week in range(8):
        await verb(guard, "grant", user="u1", amount=5, id=f"week-{week}")
        spend(guard, 5)
        assert carried(guard) == [f"week-{week}"]
        clock.advance(days=7)
    assert [grant.id for grant in guard.status(user="u1").grants] == ["week-7"]
    spend(guard, 1)
    assert carried(guard) == ["week-7"]  # until the next grant looks
    assert (await verb(guard, "grant", user="u1", amount=5, id="week-3")).revision == 8
    with pytest.raises(IdempotencyMismatch):
        await verb(guard, "grant", user="u1", amount=6, id="week-3")


USED: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "all of it is settled": ({"amount": 5}, {"cost": 5}, False),
    "more was spent than it had": ({"amount": 5}, {"cost": 9}, False),
    "a part is left": ({"amount": 5}, {"cost": "4.999999999"}, True),
    "nothing was spent": ({"amount": 5}, {"cost": 0}, True),
    "it pays for another model": ({"amount": 5, "models": "big"}, {"cost": 5}, True),
    "it pays for the model that was called": ({"amount": 5, "models": "big"}, {"cost": 5, "model": "big"}, False),
}


@pytest.mark.parametrize(("terms", "call", "lasts"), USED.values(), ids=USED)
def test_what_is_used_up(opened: Opened, terms: dict[str, Any], call: dict[str, Any], lasts: bool) -> None:
    """A grant whose meter shows all of it settled is no source any more, once something else is granted."""
    guard = opened(policy(included=None))
    guard.grant(user="u1", id="first", **terms)
    guard.settle(guard.reserve(user="u1", **call), cost=call["cost"])
    guard.grant(user="u1", amount=1, id="next")
    assert [grant.id for grant in guard.status(user="u1").grants] == ["first"] * lasts + ["next"]


def test_a_grant_that_is_held_is_not_used_up(opened: Opened) -> None:
    """What a call holds of it may come back."""
    guard = opened(policy(included=None))
    guard.grant(user="u1", amount=5, id="first")
    held = guard.reserve(user="u1", cost=5)
    guard.grant(user="u1", amount=5, id="second")
    guard.release(held)
    spend(guard, 6)
    assert paid(guard) == {"first": 5, "second": 1}


def test_what_comes_back_pays_again(opened: Opened, clock: ManualClock) -> None:
    """A late settle gives a used-up grant its money back: the next grant finds it, and it pays before the younger."""
    guard = opened(policy(included=None))
    guard.grant(user="u1", amount=5, id="first")
    late = guard.reserve(user="u1", cost=5)
    clock.advance(minutes=5)  # expired: booked as expected
    guard.grant(user="u1", amount=5, id="second")
    spend(guard, 1)
    assert (carried(guard), paid(guard)) == (["second"], {"second": 1})
    guard.settle(late, cost=2)
    spend(guard, 1)
    assert carried(guard) == ["second"]
    guard.grant(user="u1", amount=5, id="third")
    spend(guard, 4)
    assert (carried(guard), paid(guard)) == (["first", "second", "third"], {"first": 5, "second": 3})


def test_what_a_grant_ends_is_told(opened: Opened, clock: ManualClock) -> None:
    """Looking at the meters ends what is overdue; what that crosses is told."""
    guard = opened({"caps": [{"id": "c", "limit": 10}], "alerts": {"thresholds": [0.5]}})
    guard.grant(user="u1", amount=100, id="first")
    guard.reserve(user="u1", cost=6)
    clock.advance(hours=1)
    told: list[str | None] = []
    guard.on("threshold", lambda event: told.append(event.cap))
    guard.grant(user="u1", amount=1)
    assert told == ["c"]


def test_revoking_ends_one_grant_of_one_user(opened: Opened) -> None:
    guard = opened(policy(None))
    for user, id in (("u1", "a"), ("u1", "b"), ("u2", "a")):
        guard.grant(user=user, amount=1, id=id)
    guard.revoke(user="u1", id="a")
    guard.revoke(user="u1", id="a")
    assert [grant.id for grant in guard.status(user="u1").grants] == ["b"]
    assert [grant.id for grant in guard.status(user="u2").grants] == ["a"]
    with pytest.raises(ValueError, match="user 'u1' has no grant 'c'"):
        guard.revoke(user="u1", id="c")


# what a grant is good for


@pytest.mark.parametrize(
    ("terms", "call", "pays"),
    [
        ({"features": ["chat"]}, {"feature": "chat"}, True),
        ({"features": "chat"}, {"feature": "chat"}, True),
        ({"features": ["chat", "vis*"]}, {"feature": "vision"}, True),
        ({"features": ["chat"]}, {"feature": "search"}, False),
        ({"features": ["chat"]}, {}, False),
        ({"models": ["big"]}, {"model": "big"}, True),
        ({"models": ["b*"]}, {"model": "host/big"}, True),
        ({"models": ["big"]}, {"model": "small"}, False),
        ({"models": ["big"]}, {}, False),
        ({"features": ["chat"], "models": ["big"]}, {"feature": "chat", "model": "small"}, False),
        ({"unit": "billed"}, {}, False),
        ({"unit": "usd"}, {}, True),
    ],
)
def test_what_a_grant_is_good_for(opened: Opened, terms: dict[str, Any], call: dict[str, Any], pays: bool) -> None:
    """Some features, some models, and only the unit in which the plan is funded."""
    guard = opened(policy(1))
    guard.grant(user="u1", amount=5, id="g", **terms)
    spend(guard, 3, **call)
    assert counted(guard)[NOGRANT] == (1 if pays else 3)


def test_a_grant_for_a_model_pays_for_the_model_that_serves(opened: Opened) -> None:
    """A downgrade is judged with the sources of the cheaper model."""
    steer = {"id": "steer", "limit": "0.001", "action": "downgrade", "to": "small"}
    guard = opened({**policy(None), "caps": [steer]})
    guard.grant(user="u1", amount=5, id="g", models=["small"])
    with guard.call(user="u1", model="big", prompt="x", max_tokens=100) as call:
        assert call.model == "small"
    assert counted(guard)[NOGRANT] == 0 < counted(guard)[ALL]


def test_a_plan_in_credits(opened: Opened) -> None:
    """The allowance, the grants and the caps that take notice of them are in the plan's unit; dollars stay dollars."""
    caps = [{"id": "credits", "limit": 5, "unit": "credits", "overage_only": True}, {"id": "usd", "limit": 5}]
    own = {"plans": {"pro": {"included": {"amount": 10, "unit": "credits"}, "caps": caps}}, "default_plan": "pro"}
    guard = opened({**own, "units": {"credits": {"big": {"request": 4}}}, "prices": PRICES})
    guard.grant(user="u1", amount=2, id="g")
    assert guard.status(user="u1").grants[0].unit == "credits"
    for _ in range(3):
        with guard.call(user="u1", model="big", prompt="x", max_tokens=100):
            pass
    assert (paid(guard), counted(guard)["credits"]) == ({"included": 10, "g": 2}, 2)
    assert 0 < counted(guard)["usd"] < 1
    with pytest.raises(CapExceeded, match="credits"):
        guard.reserve(user="u1", model="big", prompt="x")


# the allowance


def test_the_allowance_is_issued_afresh(opened: Opened, clock: ManualClock) -> None:
    """At the start of each period, whole; a call of the old period settles into the old one."""
    clock.set(datetime(2026, 1, 31, 23, 59, 30, tzinfo=UTC))
    over = {"id": OVER, "limit": 100, "overage_only": True, "window": "lifetime"}
    guard = opened({"default_plan": "pro", "plans": {"pro": {"included": {"amount": 10}, "caps": [over]}}})
    spend(guard, 4)
    late = guard.reserve(user="u1", cost=5)
    included = guard.status(user="u1").included
    assert included is not None
    assert included.expires_at == datetime(2026, 2, 1, tzinfo=UTC)
    clock.advance(seconds=60)
    assert paid(guard) == {}
    spend(guard, 10)
    guard.settle(late, cost=7)
    assert (paid(guard), counted(guard)[OVER]) == ({"included": 10}, 1)


def test_an_upgrade_carries_what_was_used(opened: Opened) -> None:
    """The allowances of two plans with one window are one meter: used on free is used on pro."""
    guard = opened({"default_plan": "free", "plans": {"free": plan(10), "pro": plan(50)}})
    spend(guard, 10)
    guard.assign(user="u1", plan="pro")
    spend(guard, 41)
    assert (paid(guard), counted(guard)[OVER]) == ({"included": 50}, 1)
    guard.assign(user="u1", plan="free")
    spend(guard, 1)
    assert counted(guard)[OVER] == 2


def test_an_allowance_for_a_team(opened: Opened) -> None:
    """Issued per team, shared by its members; a call without a team has none."""
    own = {"amount": 10, "per": ["team"], "window": "daily"}
    guard = opened({"default_plan": "pro", "plans": {"pro": {**plan(None), "included": own}}})
    for user, team, overage in (("u1", "t", 0), ("u2", "t", 2), ("u3", None, 6)):
        guard.settle(guard.reserve(user=user, team=team, cost=6), cost=6)
        assert counted(guard, user)[OVER] == overage


def test_a_command_says_for_which_time_it_was_built(opened: Opened, clock: ManualClock) -> None:
    """Between the timed changes and periods on either side of it; at any other time the backend has it built again."""
    included = {"amount": 10, "window": "daily"}
    guard = opened({"default_plan": "pro", "plans": {"pro": {**plan(None), "included": included}}})
    noon, hour, day = clock(), 3_600_000, 86_400_000
    guard.grant(user="u1", amount=1, until=clock.now + timedelta(hours=1))
    guard.override(user="u1", cap=ALL, limit=1, until=clock.now + timedelta(hours=2))

    def span() -> tuple[int, int]:
        request = read_request({"user": "u1", "cost": 1})
        command = guard._knowledge.draft(request, clock(), book=False).command(clock())
        return command.valid_from - noon, command.valid_until - noon

    midnight = day // 2
    spans = [(0, (-midnight, hour)), (1, (hour, 2 * hour)), (2, (2 * hour, midnight)), (12, (midnight, midnight + day))]
    for hours, expected in spans:
        clock.set(datetime(2026, 1, 15, 12, tzinfo=UTC) + timedelta(hours=hours))
        assert span() == expected


# once per id


@pytest.mark.parametrize(
    "other",
    [
        {"amount": 6},
        {"priority": 1},
        {"until": datetime(2027, 1, 2, tzinfo=UTC)},
        {"until": None},
        {"features": ["chat", "more"]},
        {"features": ()},
        {"models": ["big"]},
        {"unit": "billed"},
    ],
)
async def test_a_grant_is_made_once_per_id(opened: Opened, verb: Verb, other: dict[str, Any]) -> None:
    """A repeat changes nothing, even after it was revoked; other terms under its id are a mismatch."""
    guard = opened(policy(None))
    terms = {"amount": 5, "id": "g", "until": datetime(2027, 1, 1, tzinfo=UTC), "features": ["chat"]}
    first = await verb(guard, "grant", user="u1", **terms)
    assert await verb(guard, "grant", user="u1", **terms) == first
    with pytest.raises(IdempotencyMismatch, match="g is remembered"):
        await verb(guard, "grant", user="u1", **{**terms, **other})
    assert [grant.amount for grant in guard.status(user="u1").grants] == [5]
    revoked = await verb(guard, "revoke", user="u1", id="g")
    assert (await verb(guard, "grant", user="u1", **terms)).revision == revoked
    assert guard.status(user="u1").grants == ()


def test_grants_without_an_id_are_two(opened: Opened) -> None:
    guard = opened(policy(None))
    guard.grant(user="u1", amount=5)
    guard.grant(user="u1", amount=5)
    assert sum(grant.amount for grant in guard.status(user="u1").grants) == 10


@pytest.mark.parametrize(
    ("terms", "loosens"),
    [({}, (NOGRANT, BOTH, "mine", "keys")), ({"unit": "billed"}, ())],
)
def test_a_grant_says_which_caps_it_loosens(opened: Opened, terms: dict[str, Any], loosens: tuple[str, ...]) -> None:
    """Those that ignore grants and may count this user, whatever other fields they need; none if it cannot pay."""
    own = [
        {"id": "mine", "limit": 5, "ignore_grants": True, "match": {"user": "u*", "feature": "chat"}},
        {"id": "hers", "limit": 5, "ignore_grants": True, "match": {"user": "ann"}},
        {"id": "keys", "limit": 5, "ignore_grants": True, "per": ["key_id"], "required": True},
    ]
    guard = opened({**policy(None), "caps": own})
    guard.override(user="u1", cap=OVER, limit=5, until=datetime(2026, 2, 1, tzinfo=UTC))
    assert guard.grant(user="u1", amount=5, **terms).loosens == loosens


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"amount": 0}, "a grant of nothing"),
        ({"amount": -1}, "amount"),
        ({"amount": float("nan")}, "amount"),
        ({"until": datetime(2027, 1, 1)}, "aware datetime"),  # noqa: DTZ001
        ({"priority": True}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"unit": "creditz"}, "'creditz' is in no cap"),
        ({"features": [""]}, "features: 0 characters"),
        ({"models": 5}, "models: int"),
        ({"user": ""}, "user"),
        ({"id": "x" * 201}, "id"),
    ],
)
async def test_terms_without_sense(opened: Opened, verb: Verb, terms: dict[str, Any], message: str) -> None:
    """Refused before anything changes."""
    guard = opened(policy(None))
    with pytest.raises(ValueError, match=message):
        await verb(guard, "grant", **{"user": "u1", "amount": 5, **terms})
    assert list(guard.entries()) == []


@pytest.mark.parametrize("field", ["overage_only", "ignore_grants"])
def test_what_pays_in_dollars_is_left_out_of_no_other_unit(opened: Opened, field: str) -> None:
    """Refused where the cap comes: with a call, or as an override. Requests are never less than counted."""
    guard = opened({**policy(), "units": {"credits": {"big": {"request": 1}}}})
    odd = Cap(id="odd", limit=5, unit="requests", **{field: True})
    for refused in (
        lambda: guard.reserve(user="u1", cost=1, caps=[odd]),
        lambda: guard.override(user="u1", caps=[odd]),
        lambda: guard.override(user="u1", cap=BOTH, unit="credits"),
    ):
        with pytest.raises(PolicyError, match=r"while included and grants are in usd"):
            refused()
    guard.reserve(user="u1", cost=1, caps=[Cap(id="even", limit=5, **{field: True})])


def test_a_users_cap_meets_a_plan_in_another_unit(opened: Opened) -> None:
    """Written for a plan in credits; under one in dollars it counts credits whole."""
    mine = {"id": "mine", "limit": 50, "unit": "credits", "overage_only": True}
    plans = {"a": {"included": {"amount": 10, "unit": "credits"}}, "b": {"included": {"amount": 10}}}
    units = {"credits": {"*": {"request": 4}}}
    guard = opened({"plans": plans, "units": units, "users": {"u1": {"plan": "a", "caps": [mine]}}, "prices": PRICES})
    for named, expected in (("a", 0), ("b", 4)):
        guard.settle(guard.reserve(user="u1", plan=named, model="big", prompt="x"))
        assert counted(guard)["mine"] == expected


# anything in any order

AMOUNT = st.integers(0, 12)
INDEX = st.integers(0, 5)
STEP = st.one_of(
    st.tuples(st.just("reserve"), AMOUNT),
    st.tuples(st.just("allow"), AMOUNT),
    st.tuples(st.just("settle"), INDEX, AMOUNT),
    st.tuples(st.just("release"), INDEX),
    st.tuples(st.just("extend"), INDEX, AMOUNT),
    st.tuples(st.just("grant"), st.integers(1, 8), st.integers(-1, 1), st.sampled_from([None, 50, 200])),
    st.tuples(st.just("revoke"), INDEX),
    st.tuples(st.just("advance"), st.sampled_from([1, 40, 100, 86400 * 20])),
)


class World:
    """One user under a plan, and what the rules say that every booking of hers draws."""

    def __init__(self, guard: Guard, clock: ManualClock):
        self.guard, self.clock = guard, clock
        self.open: list[Any] = []
        self.grants: list[str] = []
        self.lasting: dict[str, tuple[int, datetime | None]] = {}

    def sources(self) -> list[SourceState]:
        status = self.guard.status(user="u1")
        assert status.included is not None
        return [status.included, *status.grants]

    def draws(self, id: str) -> dict[str, Decimal]:
        """What is held or booked for a call on each source, by the journal."""
        drawn: dict[str, int] = {}
        named: dict[tuple[str, int], str] = {}
        for entry in self.guard.entries():
            if entry.id != id:
                continue
            body = entry.body
            if entry.kind in ("reserve", "book"):
                legs = [*body["legs"], *body["sources"]]
                for leg, share in zip(legs, body["shares"], strict=True):
                    named[leg[0], leg[1]] = leg[5]
                    drawn[leg[5]] = share
            for meter, period, settled, held, _ in body.get("moves", ()):
                drawn[named[meter, period]] += settled + held
        return {name: Decimal(parts) / 10**9 for name, parts in drawn.items()}

    def check(self, id: str, amount: int, rooms: list[tuple[str, Decimal]]) -> None:
        """The waterfall over `rooms`, and what each cap leaves out of it."""
        drawn, left, paid_by = self.draws(id), Decimal(amount), {}
        for name, room in rooms:
            paid_by[name] = min(left, room)
            left -= paid_by[name]
        assert {name: drawn.get(name, 0) for name in paid_by} == paid_by
        included, granted = paid_by["included"], sum(paid_by.values()) - paid_by["included"]
        assert [drawn[kind] for kind in KINDS] == [amount, amount - included, amount - granted, left]

    def settle(self, index: int, amount: int) -> None:
        if not self.open:
            return
        call = self.open.pop(index % len(self.open))
        self.guard.reserve(user="u1", cost=0)  # lets what is overdue end first
        own = self.draws(call.id)
        rooms = {source.id: source.remaining for source in self.sources()} | self.came_back()
        order = [name for name in own if name not in KINDS]
        try:
            self.guard.settle(call, cost=amount)
        except UnknownReservation:  # it ended longer ago than ids are remembered
            return
        if self.same_period(call.id):
            self.check(call.id, amount, [(name, rooms.get(name, Decimal(0)) + own[name]) for name in order])

    def came_back(self) -> dict[str, Decimal]:
        """What used-up grants have got back: no new call carries them, those in flight may draw on it."""
        listed = {source.id for source in self.sources()}
        ids = {entry.id for entry in self.guard.entries() if entry.kind in ("reserve", "book")}
        drawn = [self.draws(id) for id in ids]
        return {
            name: amount - sum((each.get(name, Decimal(0)) for each in drawn), Decimal(0))
            for name, (amount, until) in self.lasting.items()
            if name not in listed and (until is None or self.clock.now < until)
        }

    def same_period(self, id: str) -> bool:
        made = next(entry.at for entry in self.guard.entries() if entry.id == id)
        return (made.year, made.month) == (self.clock.now.year, self.clock.now.month)

    def step(self, name: str, *given: Any) -> None:
        getattr(self, f"do_{name}", self.settle)(*given)
        for source in self.sources():
            assert 0 <= source.settled + source.held <= source.amount
        for cap in self.guard.status(user="u1").caps:
            assert cap.settled >= 0 <= cap.held

    def do_reserve(self, amount: int) -> None:
        self.guard.reserve(user="u1", cost=0)
        rooms = [(source.id, source.remaining) for source in self.sources()]
        self.open.append(self.guard.reserve(user="u1", cost=amount))
        self.check(self.open[-1].id, amount, rooms)

    def do_allow(self, amount: int) -> None:
        self.guard.reserve(user="u1", cost=0)
        rooms = [(source.id, source.remaining) for source in self.sources()]
        assert self.guard.allow(user="u1", amount=amount)
        self.check(list(self.guard.entries())[-1].id, amount, rooms)

    def do_release(self, index: int) -> None:
        if self.open:
            self.guard.release(self.open.pop(index % len(self.open)))

    def do_extend(self, index: int, amount: int) -> None:
        if self.open:
            call = self.open[index % len(self.open)]
            self.guard.reserve(user="u1", cost=0)
            if any(entry.id == call.id and entry.kind == "expire" for entry in self.guard.entries()):
                return
            before = self.draws(call.id)
            self.guard.extend(call, amount=amount)
            assert all(drawn >= before[name] for name, drawn in self.draws(call.id).items())

    def do_grant(self, amount: int, priority: int, seconds: int | None) -> None:
        until = None if seconds is None else self.clock.now + timedelta(seconds=seconds)
        self.grants.append(f"g{len(self.grants)}")
        self.lasting[self.grants[-1]] = amount, until
        self.guard.grant(user="u1", amount=amount, priority=priority, until=until, id=self.grants[-1])

    def do_revoke(self, index: int) -> None:
        if self.grants:
            ended = self.grants[index % len(self.grants)]
            self.lasting.pop(ended, None)
            self.guard.revoke(user="u1", id=ended)

    def do_advance(self, seconds: int) -> None:
        self.clock.advance(seconds=seconds)


def in_any_order(url: str, steps: list[tuple[Any, ...]]) -> None:
    clock = ManualClock()
    with Guard(url, policy=policy(**dict.fromkeys(KINDS, 100_000)), clock=clock) as guard:
        world = World(guard, clock)
        for step in steps:
            world.step(*step)
        assert guard.verify()


@settings(max_examples=120, deadline=None)
@given(st.lists(STEP, max_size=14))
def test_in_any_order(steps: list[tuple[Any, ...]]) -> None:
    """Draws are the waterfall over what is there, caps count what it leaves, no meter is below 0 or over its amount."""
    in_any_order("memory://", steps)


@settings(max_examples=12, deadline=None)
@given(steps=st.lists(STEP, min_size=6, max_size=14))
def test_in_any_order_on_disk(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]) -> None:
    """The same on SQLite."""
    in_any_order(f"sqlite:///{tmp_path_factory.mktemp('world')}/ledger.db?timeout=30", steps)


# the example world

PRINTED = """\
                               pays:                      counts:
                               included   promo   top-up  overage  week    margin
                               of 50      of 20   of 10   of 20    of 15   of 40
Tue  3 Mar  spends $45         45         0       -       0        0       0
Tue  3 Mar  spends $10         50         5       -       0        0       5
Wed  4 Mar  spends $20         50         20      -       5        5       25
Thu  5 Mar  spends $10         50         20      -       15       15      35
Fri  6 Mar  spends $1          refused by week until Mon  9 Mar
Mon  9 Mar  spends $5          50         20      -       20       5       40
Mon  9 Mar  spends $1          refused by overage, margin until Wed  1 Apr
Mon  9 Mar  buys a top-up      loosens overage, week
Mon  9 Mar  spends $1          refused by margin until Wed  1 Apr
Wed  1 Apr  spends $55         50         -       5       0        0       5
Wed  1 Apr  spends $20         50         -       10      15       15      25
"""


def test_the_example_world(tmp_path: Path) -> None:
    """What examples/customers.py prints, line by line: every balance can be checked by hand."""
    script = Path(__file__).parents[1] / "examples" / "customers.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(script.parents[1])},
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == PRINTED
    assert list(tmp_path.iterdir()) == []
