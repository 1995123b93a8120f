"""Who pays, which model serves, what is free: rules 6 to 8, a test or more for each sentence."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from capguard import Guard, Policy, PolicyError, Usage
from capguard.testing import ManualClock
from tests.kit import PRICES, last
from tests.promises.conftest import Watched
from tests.promises.kit import ASK, BIG, SMALL, Opened, cap, caps, refusing, spend, state

# rule 6: funding


def funded(included: Any = 10, **limits: Any) -> dict[str, Any]:
    """A plan with an allowance, and a cap for each answer to "what does it count?"."""
    counting = [
        cap("all", limits.get("all", 999)),
        cap("over", limits.get("over", 999), overage_only=True),
        cap("own", limits.get("own", 999), ignore_grants=True),
        cap("neither", limits.get("neither", 999), overage_only=True, ignore_grants=True),
    ]
    plan: dict[str, Any] = {"caps": counting}
    if included is not None:
        plan["included"] = {"amount": included}
    return {"default_plan": "p", "plans": {"p": plan}, "prices": PRICES}


def counted(guard: Guard) -> list[Decimal]:
    """What is settled on all, over, own, neither."""
    return [each.settled for each in guard.status(user="u1").caps]


def drawn(guard: Guard) -> dict[str, Decimal]:
    """What is settled on each source."""
    status = guard.status(user="u1")
    sources = [*([status.included] if status.included else []), *status.grants]
    return {each.id: each.settled for each in sources}


@pytest.mark.parametrize("field", ["overage_only", "ignore_grants"])
@pytest.mark.parametrize("place", ["plan", "everybody", "user"])
def test_rule_6_another_unit_than_the_plans_is_refused_at_load(field: str, place: str) -> None:
    """Dollars pay for dollars: a cap in tokens cannot leave out what they paid."""
    odd = cap("odd", 5, unit="tokens", **{field: True})
    plan = {"included": {"amount": 5}, "caps": [odd] if place == "plan" else []}
    rest = {"everybody": {"caps": [odd]}, "user": {"users": {"u1": {"plan": "p", "caps": [odd]}}}}
    with pytest.raises(PolicyError) as refused:
        Policy(default_plan="p", plans={"p": plan}, **rest.get(place, {}))
    assert [finding.place.rsplit(".", 1)[-1] for finding in refused.value.findings] == [field]


def test_rule_6_the_split_at_reserve_is_provisional(opened: Opened) -> None:
    """What the first call gives back pays for the second, though the second was held as overage."""
    guard = opened(funded())
    first, second = guard.reserve(user="u1", cost=10), guard.reserve(user="u1", cost=4)
    assert state(guard, "over").held == 4
    guard.settle(first, cost=6)
    guard.settle(second, cost=4)
    assert (drawn(guard), counted(guard)) == ({"included": 10}, [10, 0, 10, 0])


@pytest.mark.parametrize(
    ("grants", "cost", "draws", "counts"),
    [
        ([], 4, {"included": 4}, [4, 0, 4, 0]),
        ([], 12, {"included": 10}, [12, 2, 12, 2]),
        ([("g", 5, 0, None)], 12, {"included": 10, "g": 2}, [12, 2, 10, 0]),
        ([("g", 5, 0, None)], 17, {"included": 10, "g": 5}, [17, 7, 12, 2]),
        ([("late", 5, 1, 1), ("first", 5, 0, None)], 12, {"included": 10, "first": 2, "late": 0}, [12, 2, 10, 0]),
        ([("never", 5, 0, None), ("soon", 5, 0, 7)], 12, {"included": 10, "soon": 2, "never": 0}, [12, 2, 10, 0]),
        ([("old", 5, 0, None), ("a-new", 5, 0, None)], 12, {"included": 10, "old": 2, "a-new": 0}, [12, 2, 10, 0]),
    ],
    ids=["included", "overage", "a grant", "all three", "priority", "expiry", "age"],
)
def test_rule_6_included_then_grants_then_overage(
    opened: Opened, clock: ManualClock, grants: list[Any], cost: int, draws: dict[str, int], counts: list[int]
) -> None:
    """Grants by priority, expiry, age; `overage_only` leaves out what included paid, `ignore_grants` what they paid."""
    guard = opened(funded())
    for id, amount, priority, days in grants:
        until = None if days is None else clock.now + timedelta(days=days)
        guard.grant(user="u1", amount=amount, id=id, priority=priority, until=until)
        clock.advance(seconds=1)
    spend(guard, cost)
    assert (drawn(guard), counted(guard)) == (draws, counts)


def test_rule_6_what_a_call_holds_is_guaranteed_to_it(opened: Opened) -> None:
    """A neighbour that turns out dearer does not take it."""
    guard = opened(funded())
    mine, theirs = guard.reserve(user="u1", cost=6), guard.reserve(user="u1", cost=4)
    guard.settle(theirs, cost=9)
    assert (drawn(guard), counted(guard)) == ({"included": 4}, [9, 5, 9, 5])
    guard.settle(mine, cost=6)
    assert (drawn(guard), counted(guard)) == ({"included": 10}, [15, 5, 15, 5])


def test_rule_6_settled_splits_are_never_revisited(opened: Opened) -> None:
    """Room that comes later, from a release or a new grant, is for later calls."""
    guard = opened(funded())
    held = guard.reserve(user="u1", cost=10)
    spend(guard, 3)
    guard.release(held)
    guard.grant(user="u1", amount=5)
    assert counted(guard) == [3, 3, 3, 3]
    spend(guard, 3)
    assert counted(guard) == [6, 3, 6, 3]


@pytest.mark.parametrize("end", ["expires", "is revoked"])
def test_rule_6_a_grant_that_ends_while_held_still_pays_its_held_part(
    opened: Opened, clock: ManualClock, end: str
) -> None:
    """And nothing beyond it; what comes back to it lapses."""
    guard = opened(funded(None))
    guard.grant(user="u1", amount=20, id="g", until=clock.now + timedelta(seconds=30))
    dearer, cheaper = guard.reserve(user="u1", cost=5), guard.reserve(user="u1", cost=5)
    if end == "expires":
        clock.advance(seconds=30)
    else:
        guard.revoke(user="u1", id="g")
    guard.settle(dearer, cost=8)
    assert state(guard, "own").settled == 3
    guard.settle(cheaper, cost=1)
    spend(guard, 1)
    assert (state(guard, "own").settled, state(guard, "all").settled) == (4, 10)


# rule 7: downgrade candidates


def test_rule_7_at_most_eight_candidates(opened: Opened) -> None:
    """Through caps that each know one step; the eighth is the end of the ladder."""
    names = [f"m{number}" for number in range(10)]
    prices = {name: {"input": 1, "output": 30 - number} for number, name in enumerate(names)}
    steps = [cap(here, 0, action="downgrade", to=there, match={"model": here}) for here, there in pairwise(names)]
    guard = opened({"prices": prices, "caps": steps})
    assert guard.reserve(**{**ASK, "model": "m0"}).model == "m7"


def test_rule_7_a_chain_that_is_longer_is_refused_at_load() -> None:
    chain = {f"m{number}": f"m{number + 1}" for number in range(8)}
    with pytest.raises(PolicyError, match="at most 8"):
        Policy(downgrade=chain)


STEER = cap("steer", "0.001", action="downgrade", to="small")


@pytest.mark.parametrize(
    ("other", "model", "held_on"),
    [
        (cap("bigs", 0, match={"model": "big"}), "small", ("steer",)),
        (cap("smalls", 5, match={"model": "small"}), "small", ("steer", "smalls")),
        (cap("smalls", 0, match={"model": "small"}), None, ("smalls",)),
        (cap("all", SMALL), "small", ("steer", "all")),
    ],
    ids=["of the dearer", "of the cheaper", "that refuses the cheaper", "of every model"],
)
def test_rule_7_each_candidate_has_its_own_caps(
    opened: Opened, other: dict[str, Any], model: str | None, held_on: tuple[str, ...]
) -> None:
    """`match` is evaluated for each candidate, and all other caps are judged on the one that is chosen."""
    guard = opened(caps(STEER, other))
    if model is None:
        assert refusing(guard, **ASK) == list(held_on)
    else:
        reservation = guard.reserve(**ASK)
        assert (reservation.model, reservation.caps) == (model, held_on)


def test_rule_7_each_candidate_has_its_own_amounts_in_every_unit(opened: Opened) -> None:
    """Dollars, what is billed, and credits are those of the model that serves; a reserve entry says all of them."""
    plans = {"p": {"markup": 2, "caps": []}}
    credits = {"big": {"request": 50}, "small": {"request": 3}}
    guard = opened(caps(STEER, plans=plans, default_plan="p", units={"credits": credits}))
    guard.reserve(**ASK)
    amounts = last(guard).amounts
    assert (amounts["usd"], amounts["billed"], amounts["credits"]) == (SMALL, 2 * SMALL, 3)
    assert (amounts["tokens"], amounts["requests"]) == (101, 1)


def test_rule_7_a_downgrade_cap_that_refuses_names_the_next_one(opened: Opened) -> None:
    """Of two, the one that leads further decides."""
    prices = {"a": {"input": 9, "output": 9}, "b": {"input": 5, "output": 5}, "d": {"input": 1, "output": 1}}
    near, far = cap("near", 0, action="downgrade"), cap("far", 0, action="downgrade", to="d", match={"model": "a"})
    guard = opened({"prices": prices, "downgrade": {"a": "b"}, "caps": [near, far]})
    assert guard.reserve(**{**ASK, "model": "a"}).model == "d"


def test_rule_7_one_round_trip(watched: Watched) -> None:
    """However many models are tried."""
    names = [f"m{number}" for number in range(8)]
    prices = {name: {"input": 1, "output": 30 - number} for number, name in enumerate(names)}
    policy = {"prices": prices, "downgrade": dict(pairwise(names)), "caps": [cap(limit=0, action="downgrade")]}
    with Guard("watched://", policy=policy) as guard:
        assert guard.reserve(**{**ASK, "model": "m0"}).model == "m7"
    assert watched.asked == ["Reserve"]


# rule 8: free and zero


def test_rule_8_free_zeroes_the_money_only(opened: Opened) -> None:
    """Requests, tokens and own units still count, and their caps refuse."""
    plan = {"markup": 3, "caps": []}
    guard = opened({
        "prices": {"local": {"free": True}},
        "units": {"credits": {"local": {"request": 2}}},
        "plans": {"p": plan},
        "default_plan": "p",
        "caps": [cap("usd", 0), cap("billed", 0, unit="billed"), cap("calls", 1, unit="requests")],
    })  # fmt: skip
    with guard.call(user="u1", model="local", prompt="x", max_tokens=9) as call:
        call.settle(usage=Usage(input_tokens=4, output_tokens=5))
    amounts = last(guard).amounts
    assert (amounts["usd"], amounts["billed"], amounts["tokens"], amounts["credits"]) == (0, 0, 9, 2)
    assert refusing(guard, user="u1", model="local", prompt="x") == ["calls"]


@pytest.mark.parametrize("limit", [0, 1])
def test_rule_8_a_leg_of_nothing_passes(opened: Opened, limit: int) -> None:
    """Also under a cap that is spent, overrun or 0."""
    guard = opened(caps(cap(limit=limit)))
    spend(guard, 2)
    assert guard.reserve(user="u1", cost=0).caps == ("c",)
    assert guard.allow(user="u1", amount=3, unit="requests")


def test_rule_8_a_paid_model_has_no_such_pass(opened: Opened) -> None:
    guard = opened(caps(cap(limit=0)))
    assert refusing(guard, **ASK) == ["c"]
    assert state(guard).settled == 0 < BIG
