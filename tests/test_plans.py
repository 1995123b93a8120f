"""What a policy means, through the public names: admission, actions, plans, matches, units, prices."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from capguard import Cap, CapExceeded, Guard, IdentityMissing, Policy, UnknownModel, Usage
from capguard.testing import ManualClock
from tests.kit import CALL, PRICES, last, spent

Opened = Callable[..., Guard]


def cap(id: str = "monthly", limit: Any = 5, **fields: Any) -> dict[str, Any]:
    return {"id": id, "limit": limit, **fields}


def spend(guard: Guard, amount: Any, user: str = "u1", **call: Any) -> None:
    """Book an amount, whatever the caps say of it."""
    guard.settle(guard.reserve(user=user, cost=0, **call), cost=amount)


# admission


@pytest.mark.parametrize(
    ("limit", "each", "admitted"),
    [("1", "0.1", 10), ("1", "0.3", 3), ("1", "1", 1), ("1", "1.000000001", 0), ("0", "0.000000001", 0),
     ("0.000000003", "0.000000001", 3), ("5", "2.5", 2)],
)  # fmt: skip
def test_as_many_as_fit(opened: Opened, limit: str, each: str, admitted: int):
    """Equality passes: exactly floor(limit / estimate) calls are held, to the nano-dollar."""
    guard = opened([cap(limit=limit)])
    for _ in range(admitted):
        guard.reserve(user="u1", cost=each)
    with pytest.raises(CapExceeded):
        guard.reserve(user="u1", cost=each)
    assert guard.reserve(user="u2", cost=0).held == 0


def test_a_call_of_nothing_passes_a_full_cap(opened: Opened):
    """A leg of 0 takes no room."""
    guard = opened([cap(limit=1)])
    spend(guard, 2)
    guard.reserve(user="u1", cost=0)
    assert guard.status(user="u1").caps["monthly"].remaining == 0


def test_overrun_never_makes_room(opened: Opened):
    """What a call cost beyond its estimate is booked in full, told, and blocks what comes next."""
    guard = opened([cap(limit=1)])
    reservation = guard.reserve(user="u1", cost="0.9")
    settlement = guard.settle(reservation, cost="1.5")
    assert (settlement.cost, settlement.overrun) == (Decimal("1.5"), Decimal("0.5"))
    state = guard.status(user="u1").caps["monthly"]
    assert (state.settled, state.overrun, state.remaining, state.fraction) == (
        Decimal("1.5"),
        Decimal("0.5"),
        0,
        1.5,
    )
    with pytest.raises(CapExceeded):
        guard.reserve(user="u1", cost="0.000000001")


def test_all_caps_or_none(opened: Opened):
    """One refuses: no other one holds anything."""
    guard = opened([cap("one", 5), cap("two", 1), cap("three", 5, per=[])])
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(user="u1", cost=2)
    assert [each.id for each in refused.value.caps] == ["two"]
    assert [each.held for each in guard.status(user="u1").caps] == [0, 0, 0]
    assert list(guard.entries()) == []


def test_check_and_allow(opened: Opened):
    """`check` holds nothing; `allow` decides and books in one step, and is falsy only for a cap."""
    guard = opened([cap(limit=1)])
    for _ in range(3):
        assert guard.check(user="u1", cost=1).allowed
    assert list(guard.entries()) == []
    assert guard.allow(user="u1", cost=1)
    refusal = guard.allow(user="u1", cost=1)
    assert (bool(refusal), refusal.allowed, refusal.refused[0].reason) == (False, False, "exhausted")
    assert not guard.check(user="u1", cost=1)
    assert (last(guard).kind, spent(guard)) == ("book", 1)
    assert [entry.kind for entry in guard.entries()] == ["book"]


# actions that do not refuse


@pytest.mark.parametrize(("action", "level"), [("warn", logging.WARNING), ("dry_run", logging.INFO)])
@pytest.mark.parametrize("limit", [0, 1])
def test_warn_and_dry_run_never_block(
    opened: Opened, caplog: pytest.LogCaptureFixture, action: str, level: int, limit: int
):
    """The call goes on, whatever is spent; the entry and the log tell it, and it is counted."""
    caplog.set_level(logging.INFO)
    guard = opened([cap("soft", limit, action=action), cap("hard", 100)])
    for _ in range(3):
        with guard.call(user="u1", cost=2) as call:
            call.settle(cost=2)
    reserved = [entry for entry in guard.entries() if entry.kind == "reserve"]
    assert all(f"{action}:soft" in entry.flags for entry in reserved)
    assert {record.levelno for record in caplog.records} == {level}
    assert spent(guard, "soft") == 6
    decision = guard.check(user="u1", cost=2)
    assert (decision.allowed, decision.warned) == (True, ("soft",) if action == "warn" else ())


def test_a_warning_says_nothing_while_there_is_room(opened: Opened):
    """Only what does not fit is told."""
    guard = opened([cap("soft", 10, action="warn")])
    assert guard.reserve(user="u1", cost=2).decision.passed == ()
    assert last(guard).flags == ()


# downgrade


CHAIN = {**PRICES, "tiny": {"input": "0.1", "output": "0.2"}}
STEERED: dict[str, tuple[dict[str, Any], str, str | None, tuple[str, ...]]] = {
    "by the map": ({"downgrade": {"big": "small"}, "caps": [cap(limit=1, action="downgrade")]}, "big", "small", ()),
    "by a pattern": ({"downgrade": {"b*": "small"}, "caps": [cap(limit=1, action="downgrade")]}, "big", "small", ()),
    "by to": ({"caps": [cap(limit=1, action="downgrade", to="small")]}, "big", "small", ()),
    "to over the map": (
        {"downgrade": {"big": "small"}, "caps": [cap(limit=1, action="downgrade", to="tiny")]},
        "big",
        "tiny",
        (),
    ),
    "with a prefix": (
        {"downgrade": {"big": "small"}, "caps": [cap(limit=1, action="downgrade")]},
        "openai/big",
        "openai/small",
        (),
    ),
    "a chain of two": (
        {"downgrade": {"big": "small", "small": "tiny"}, "caps": [cap(limit=1, action="downgrade")]},
        "big",
        "tiny",
        (),
    ),
    "no cheaper sibling": ({"caps": [cap(limit=1, action="downgrade")]}, "big", "big", ()),
    "none, and otherwise": ({"caps": [cap(limit=1, action="downgrade", otherwise="block")]}, "big", None, ()),
    "the last one, and otherwise": (
        {"caps": [cap(limit=1, action="downgrade", to="small", otherwise="block")]},
        "big",
        None,
        (),
    ),
    "a cap that only matches the big one": (
        {"caps": [cap(limit=0, action="downgrade", to="small", otherwise="block", match={"model": "big"})]},
        "big",
        "small",
        (),
    ),
    "another model": ({"downgrade": {"big": "small"}, "caps": [cap(limit=1, action="downgrade")]}, "tiny", "tiny", ()),
    "others are judged on the chosen one": (
        {"caps": [cap(limit=1, action="downgrade", to="small"), cap("big only", 0, match={"model": "big"})]},
        "big",
        "small",
        (),
    ),
    "others refuse the chosen one": (
        {"caps": [cap(limit=1, action="downgrade", to="small"), cap("small only", 0, match={"model": "small"})]},
        "big",
        None,
        (),
    ),
}


@pytest.mark.parametrize("case", STEERED)
def test_downgrade(opened: Opened, case: str):
    """Decided again on the cheaper model, in the same step; what cannot be steered passes, flagged, or is refused."""
    policy, asked, serves, _ = STEERED[case]
    guard = opened({"prices": CHAIN | {"openai/big": PRICES["big"], "openai/small": PRICES["small"]}, **policy})
    spend(guard, 1)
    call = {**CALL, "model": asked}
    if serves is None:
        assert not guard.check(**call)
        with pytest.raises(CapExceeded):
            guard.reserve(**call)
        return
    decision = guard.check(**call)
    reservation = guard.reserve(**call)
    assert decision.model == reservation.model == reservation.params["model"] == serves
    assert last(guard).model == serves
    assert "downgrade:monthly" in last(guard).flags
    if serves != asked:
        assert last(guard).body["facts"]["asked"] == asked
        assert reservation.held == opened({"prices": CHAIN}).reserve(**{**call, "model": serves.split("/")[-1]}).held


def test_a_downgrade_while_there_is_room(opened: Opened):
    """Nothing is steered before the cap is full."""
    guard = opened({"prices": PRICES, "caps": [cap(limit=1, action="downgrade", to="small")]})
    assert (guard.reserve(**CALL).model, last(guard).flags) == ("big", ())


def test_allow_is_never_steered(opened: Opened):
    """One phase: it decides on what it was asked."""
    guard = opened({"prices": PRICES, "caps": [cap(limit=1, action="downgrade", to="small")]})
    spend(guard, 1)
    assert guard.allow(**CALL).model == "big"


# plans and users


PLANS = {
    "prices": PRICES,
    "default_plan": "free",
    "plans": {
        "free": {"caps": [cap(limit=1), cap("daily", "0.5", window="daily")]},
        "pro": {"caps": [cap(limit=60), cap("notice", 40, action="warn")]},
    },
    "caps": [cap("company", 5000, per=[])],
    "users": {
        "more": {"caps": [cap(limit=3)]},
        "extra": {"caps": [cap("own", "0.25", window="lifetime")]},
        "pro": {"plan": "pro", "caps": [cap(limit=2, action="warn")]},
        "other": {"caps": [{"id": "daily", "action": "warn"}]},
    },
}
STANDINGS = [
    ({"user": "u1"}, "free", {"monthly": "1", "daily": "0.5", "company": "5000"}),
    ({"user": "u1", "plan": "pro"}, "pro", {"monthly": "60", "notice": "40", "company": "5000"}),
    ({"user": "more"}, "free", {"monthly": "3", "daily": "0.5", "company": "5000"}),
    ({"user": "more", "plan": "pro"}, "pro", {"monthly": "3", "notice": "40", "company": "5000"}),
    ({"user": "extra"}, "free", {"monthly": "1", "daily": "0.5", "own": "0.25", "company": "5000"}),
    ({"user": "pro"}, "pro", {"monthly": "2", "notice": "40", "company": "5000"}),
    ({"user": "other"}, "free", {"monthly": "1", "daily": "0.5", "company": "5000"}),
    ({"user": "other", "plan": "pro"}, "pro", {"monthly": "60", "notice": "40", "company": "5000"}),
]


@pytest.mark.parametrize(("who", "plan", "limits"), STANDINGS)
def test_which_caps_hold(opened: Opened, who: dict[str, str], plan: str, limits: dict[str, str]):
    """The plan's as written, with the user's changes in their place, then the user's own, then the global ones."""
    guard = opened(PLANS)
    status = guard.status(**who)
    assert status.plan == plan
    assert [(each.id, each.limit) for each in status.caps] == [(id, Decimal(limit)) for id, limit in limits.items()]
    assert guard.reserve(**who, cost="0.1").caps == tuple(limits)


def test_an_upgrade_carries_the_spend(opened: Opened):
    """The same id in two plans is the same meter."""
    guard = opened(PLANS)
    spend(guard, "0.4")
    assert guard.status(user="u1", plan="pro").caps["monthly"].settled == Decimal("0.4")


def test_one_meter_for_everybody(opened: Opened):
    """`per = []`."""
    guard = opened([cap("company", 3, per=[])])
    for user in ("u1", "u2"):
        spend(guard, "1.5", user)
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(user="u3", cost="0.1")
    assert (refused.value.cap.scope, "everybody" in str(refused.value)) == ({}, True)


MATCHES = [
    ({"model": "gpt-4o*"}, {"model": "gpt-4o-mini"}, True),
    ({"model": "gpt-4o*"}, {"model": "openai/gpt-4o"}, True),
    ({"model": "openai/*"}, {"model": "openai/gpt-4o"}, True),
    ({"model": "openai/*"}, {"model": "gpt-4o"}, False),
    ({"model": "gpt-4o"}, {"model": "gpt-4o-mini"}, False),
    ({"model": ["big", "small"]}, {"model": "small"}, True),
    ({"model": "*"}, {}, False),
    ({"feature": "vision"}, {"feature": "vision"}, True),
    ({"feature": "vision"}, {"feature": "Vision"}, False),
    ({"feature": "vision"}, {}, False),
    ({"feature": "vision", "model": "big"}, {"feature": "vision", "model": "big"}, True),
    ({"feature": "vision", "model": "big"}, {"feature": "vision", "model": "small"}, False),
    ({"plan": "pro"}, {"plan": "pro"}, True),
    ({"plan": "pro"}, {}, False),
    ({"plan": "free"}, {}, True),
    ({"tag:env": "live"}, {"tags": {"env": "live"}}, True),
    ({"tag:env": "live"}, {"tags": {"env": "test"}}, False),
    ({"user": "bot-?"}, {"user": "bot-1"}, True),
    ({"org": "[ab]*"}, {"org": "beta"}, True),
]


@pytest.mark.parametrize(("match", "call", "applies"), MATCHES)
def test_match(opened: Opened, match: dict[str, Any], call: dict[str, Any], applies: bool):
    """Patterns by field; all must match, and a field that the call does not name matches nothing."""
    plans = {"default_plan": "free", "plans": {"free": {}, "pro": {}}}
    guard = opened({"prices": PRICES, **plans, "caps": [cap("matched", 1, match=match)]})
    known = {} if "model" in call else {"cost": 0}
    reservation = guard.reserve(**{"user": "u1", "max_tokens": 1, "prompt": "x", **known, **call})
    assert reservation.caps == (("matched",) if applies else ())
    named = {name: value for name, value in call.items() if name != "model"}
    assert len(guard.status(user=named.pop("user", "u1"), **named).caps) == (applies or "model" in match)


def test_caps_of_one_call(opened: Opened):
    """Beside the policy's, after them."""
    guard = opened([cap(limit=5)])
    run = Cap(id="run", limit=1, per=["session"], window="lifetime", idle="24h")
    for _ in range(2):
        assert guard.reserve(user="u1", session="s1", cost="0.5", caps=[run]).caps == ("monthly", "run")
    with pytest.raises(CapExceeded):
        guard.reserve(user="u1", session="s1", cost="0.5", caps=[run])
    guard.reserve(user="u1", session="s2", cost="0.5", caps=(run,))


# units


UNITS = {
    "prices": PRICES | {"local": {"free": True, "input": 0, "output": 0}},
    "units": {
        "credits": {"big": {"input": 100, "output": 400, "request": 1}},
        "gpu": {"big": {"quantities": {"gpu": 1}}},
    },
}
BOOKED = [
    ("usd", "0.012"),
    ("billed", "0.018"),
    ("tokens", "1100"),
    ("input_tokens", "1000"),
    ("output_tokens", "100"),
    ("requests", "1"),
    ("credits", "1.14"),
]


@pytest.mark.parametrize(("unit", "amount"), BOOKED)
def test_every_unit(opened: Opened, unit: str, amount: str):
    """One call is counted in all of them: money with the plan's markup, tokens, requests, credits by their rates."""
    plans = {"default_plan": "pro", "plans": {"pro": {"markup": "1.5"}}}
    guard = opened({**UNITS, **plans, "caps": [cap("counted", 5000, unit=unit)]})
    with guard.call(**CALL) as call:
        call.settle(usage=Usage(input_tokens=1000, output_tokens=100))
    assert guard.status(user="u1").caps["counted"].settled == Decimal(amount)


def test_units_of_ones_own(opened: Opened):
    """Amounts that the caller knows, and quantities of a usage."""
    guard = opened({**UNITS, "caps": [cap("credits", 10, unit="credits"), cap("gpu", 60, unit="gpu")]})
    assert guard.allow(user="u1", amount="2.5", unit="credits")
    with guard.call(**CALL) as call:
        call.settle(usage=Usage(input_tokens=0, output_tokens=0, quantities={"gpu": "12.5"}))
    assert (spent(guard, "credits"), spent(guard, "gpu")) == (Decimal("3.5"), Decimal("12.5"))
    assert not guard.allow(user="u1", amount=7, unit="credits")
    with pytest.raises(ValueError, match="credits"):
        guard.allow(user="u1", amount=7, unit="credit")


def test_a_free_model_costs_no_money(opened: Opened):
    """Its tokens and requests count all the same."""
    guard = opened({**UNITS, "caps": [cap(limit=0), cap("calls", 2, unit="requests")]})
    for _ in range(2):
        with guard.call(**{**CALL, "model": "local"}) as call:
            call.settle(usage=Usage(input_tokens=1000, output_tokens=100))
    assert (spent(guard), spent(guard, "calls"), last(guard).flags) == (0, 2, ())
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(**{**CALL, "model": "local"})
    assert refused.value.cap.id == "calls"


UNKNOWN = [("ceiling", "0.0225", ("ceiling",)), ("allow", "0", ("unpriced",)), ("deny", None, ())]


@pytest.mark.parametrize(("rule", "cost", "flags"), UNKNOWN)
def test_unknown_models(opened: Opened, rule: str, cost: str | None, flags: tuple[str, ...]):
    """No price is never silently zero: a ceiling, a flag, or no call."""
    guard = opened({"prices": PRICES, "caps": [cap()], "failure": {"unknown_model": rule}})
    call = {**CALL, "model": "nobody-knows-it"}
    if cost is None:
        with pytest.raises(UnknownModel, match="nobody-knows-it"):
            guard.reserve(**call)
        assert list(guard.entries()) == []
        return
    with guard.call(**call) as entered:
        assert (entered.reservation.held > 0) == (rule == "ceiling")
        entered.settle(usage=Usage(input_tokens=1000, output_tokens=100))
    assert (spent(guard), last(guard).flags) == (Decimal(cost), flags)
    assert set(flags) <= set(next(iter(guard.entries())).flags)


def test_a_call_that_names_no_model(opened: Opened):
    """A prompt alone is held at the ceiling, or denied."""
    guard = opened({"caps": [cap()]})
    assert guard.reserve(user="u1", prompt="Hello").held > 0
    assert last(guard).flags == ("ceiling",)
    with pytest.raises(UnknownModel, match="names no model"):
        opened({"failure": {"unknown_model": "deny"}}).reserve(user="u1", prompt="Hello")


# time


def test_a_period_ends(opened: Opened, clock: ManualClock):
    """Room again; the settle of an old call goes to its own period."""
    guard = opened([cap(limit=1, window="daily")])
    reservation = guard.reserve(user="u1", cost=1, ttl=24 * 3600)
    clock.advance(hours=13)
    assert guard.reserve(user="u1", cost=1)
    guard.settle(reservation, cost="0.5")
    assert spent(guard) == 0
    assert guard.status(user="u1").caps["monthly"].held == 1


def test_a_forgotten_hold_is_booked_by_its_expiry(opened: Opened, clock: ManualClock):
    """As expected, or released, as the policy says; a late settle replaces it, once."""
    for rule, booked in (("charge_expected", 1), ("release", 0)):
        guard = opened({"caps": [cap(rule, 5)], "failure": {"on_expiry": rule}})
        reservation = guard.reserve(user="u1", cost=1, ttl=60)
        clock.advance(hours=1)
        guard.reserve(user="u2", cost=1)
        assert (spent(guard, rule), guard.status(user="u1").caps[rule].held) == (booked, 0)
        settlement = guard.settle(reservation, cost="0.25")
        assert (settlement.late, spent(guard, rule)) == (True, Decimal("0.25"))
        assert "late" in last(guard).flags


def test_policies_are_given_in_many_ways(tmp_path, url: str):
    """A path, a dict, a list of caps or objects: the same policy."""
    file = tmp_path / "policy.toml"
    file.write_text('[[caps]]\nid = "monthly"\nlimit = 5\n')
    as_object = Policy(caps=[Cap(id="monthly", limit=5)])
    for given in (file, str(file), {"caps": [cap()]}, [cap()], as_object):
        with Guard(url, policy=given) as guard:
            assert guard.policy == as_object


def test_a_missing_user_is_told_before_anything_is_held(opened: Opened):
    """`missing_identity = "deny"` is the default."""
    guard = opened([cap()])
    with pytest.raises(IdentityMissing, match="'monthly' counts per user"):
        guard.reserve(cost=1)
    assert guard.verify().entries == 0


def test_a_cap_for_one_call_needs_an_id_of_its_own(opened: Callable[..., Guard]) -> None:
    """Two caps on one meter would each be judged without the other: refused, and nothing is held."""
    guard = opened({"caps": [{"id": "m", "limit": 10}]})
    with pytest.raises(ValueError, match="m is in the policy already"):
        guard.reserve(user="u1", cost="6", caps=[Cap(id="m", limit=10)])
    guard.reserve(user="u1", cost="6", caps=[Cap(id="run", limit=10)])
    assert guard.status(user="u1").caps["m"].held == 6
