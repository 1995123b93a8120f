"""Every key of the example policy means what the comment beside it says. The example is tests/policy/example.toml."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from capguard import CapExceeded, Guard, IdentityMissing, PolicyError, UnknownModel, Usage, identify
from capguard.testing import ManualClock
from tests.kit import PRICES, last
from tests.promises.kit import ASK, BIG, Opened, cap, caps, listen, meters, refused, refusing, spend, state

EXAMPLE = Path(__file__).parents[1] / "policy" / "example.toml"
PRO: dict[str, Any] = {"user": "u1", "plan": "pro"}
GPT: dict[str, Any] = {**PRO, "model": "gpt-4o", "prompt": "x", "max_tokens": 100}


@pytest.fixture
def guard(opened: Opened) -> Guard:
    return opened(EXAMPLE)


# default_plan, plans


def test_default_plan_is_for_identities_with_no_plan(guard: Guard) -> None:
    assert (guard.status(user="u1").plan, guard.status(**PRO).plan) == ("free", "pro")
    assert [each.id for each in guard.status(user="u1").caps][:1] == ["monthly"]


def test_a_caps_defaults(guard: Guard) -> None:
    """Unit usd, per user, window monthly, action block."""
    monthly = state(guard, "monthly")
    assert (monthly.unit, monthly.scope, monthly.action) == ("usd", {"user": "u1"}, "block")
    assert monthly.resets_at == datetime(2026, 2, 1, tzinfo=UTC)
    spend(guard, 5)
    assert refusing(guard, user="u1", cost=1) == ["monthly"]
    guard.reserve(user="u2", cost=5)


def test_price_is_what_the_report_earns_by(guard: Guard) -> None:
    """49 a customer; a customer who cost 50 is under water."""
    spend(guard, 50, plan="pro")
    spend(guard, 10, user="u2", plan="pro")
    (row,) = guard.report().rows
    assert row.economics is not None
    earned = row.economics
    assert (earned.price, earned.customers, earned.revenue, earned.margin) == (49, 2, 98, 38)
    assert [(each.user, each.loss) for each in earned.worst] == [("u1", 1)]


def test_included_is_in_usd_per_user_unless_said_otherwise(guard: Guard, clock: ManualClock) -> None:
    """50, issued afresh on the 1st."""
    spend(guard, 20, plan="pro")
    for user, remaining in (("u1", 30), ("u2", 50)):
        included = guard.status(user=user, plan="pro").included
        assert included is not None
        assert (included.unit, included.amount, included.remaining) == ("usd", 50, remaining)
        assert included.expires_at == datetime(2026, 2, 1, tzinfo=UTC)
    clock.set(datetime(2026, 2, 1, tzinfo=UTC))
    renewed = guard.status(**PRO).included
    assert renewed is not None
    assert renewed.remaining == 50


def test_included_may_say_otherwise(opened: Opened) -> None:
    """In credits, per team."""
    allowance = {"amount": 7, "unit": "credits", "per": ["team"], "window": "daily"}
    units = {"credits": {"*": {"request": 1}}}
    guard = opened({"default_plan": "p", "plans": {"p": {"included": allowance}}, "units": units, "prices": PRICES})
    guard.settle(guard.reserve(**{**ASK, "team": "t"}))
    for user, team, settled in (("u1", "t", 1), ("u2", "t", 1), ("u1", "other", 0)):
        included = guard.status(user=user, team=team).included
        assert included is not None
        assert (included.unit, included.settled) == ("credits", settled)


@pytest.mark.parametrize(
    ("spent", "model", "passed"),
    [
        ("39.99", "gpt-4o", []),
        ("40", "gpt-4o", ["notice"]),
        ("49", "gpt-4o-mini", ["cheaper", "notice"]),
        ("59.99", "gpt-4o-mini", ["cheaper", "notice"]),
    ],
)
def test_the_caps_of_pro(guard: Guard, spent: str, model: str, passed: list[str]) -> None:
    """Warned at 40, on the model of [downgrade] from 49."""
    spend(guard, spent, plan="pro")
    reservation = guard.reserve(**GPT)
    assert (reservation.model, [each.id for each in reservation.decision.passed]) == (model, passed)


def test_pro_is_refused_at_60(guard: Guard) -> None:
    spend(guard, 60, plan="pro")
    assert refusing(guard, **GPT) == ["hard"]


def test_the_weekly_cap_counts_overage_that_no_grant_paid(guard: Guard) -> None:
    """50 included and 5 granted leave 2 of 57; a week from Monday on."""
    guard.grant(user="u1", amount=5)
    spend(guard, 57, plan="pro")
    week = guard.status(**PRO).caps["week"]
    assert (week.settled, week.limit, week.resets_at) == (2, 15, datetime(2026, 1, 19, tzinfo=UTC))


# caps for every call


def test_per_nobody_is_one_meter_for_everybody(guard: Guard) -> None:
    """And a day of Paris."""
    spend(guard, 4, user="u1")
    spend(guard, 3, user="u2", plan="pro")
    company = guard.status(user="u3").caps["company"]
    assert (company.scope, company.settled, company.limit) == ({}, 7, 5000)
    assert company.resets_at == datetime(2026, 1, 15, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("call", "applies"),
    [
        ({"feature": "vision", "model": "gpt-4o"}, True),
        ({"feature": "vision", "model": "gpt-4o-mini"}, True),
        ({"feature": "vision", "model": "openai/gpt-4o"}, True),
        ({"feature": "vision", "model": "gpt-4.1"}, False),
        ({"feature": "chat", "model": "gpt-4o"}, False),
        ({"model": "gpt-4o"}, False),
        ({"feature": "vision"}, False),
    ],
)
def test_match_says_to_which_calls_a_cap_applies(guard: Guard, call: dict[str, str], applies: bool) -> None:
    """All its fields must match, `*` stands for anything."""
    assert ("vision" in guard.reserve(user="u1", cost=1, **call).caps) == applies


def test_requests_per_key_in_a_rolling_minute(guard: Guard, clock: ManualClock) -> None:
    """60 of one key; the 61st waits, another key does not, a call without a key is not counted."""
    for _ in range(60):
        assert guard.allow(user="u1", key_id="k1", amount=0)
    start = clock.now
    guard.reserve(user="u1", key_id="k2", cost=0)
    guard.reserve(user="u1", cost=0)
    assert clock.now == start
    error = refused(guard, user="u1", key_id="k1", cost=0)  # a minute is more than the 30 s that it may wait
    assert (error.cap.id, error.reason) == ("rpm", "throttled")
    clock.advance(seconds=62)
    guard.reserve(user="u1", key_id="k1", cost=0)


WHO: dict[str, Any] = {
    "user": "u1", "plan": "free", "org": "o1", "team": "t1", "key_id": "k1", "feature": "f1", "session": "s1",
}  # fmt: skip
OTHER: dict[str, Any] = {name: {name: "pro" if name == "plan" else "other"} for name in WHO}


@pytest.mark.parametrize("field", [*WHO, "tag:env"])
def test_per_is_one_meter_for_each_value(opened: Opened, field: str) -> None:
    """Of each field of the identity, and of tags."""
    plans = {"free": {}, "pro": {}}
    guard = opened(caps(cap(limit=1, per=[field]), plans=plans))
    who = {**WHO, "tags": {"env": "prod", "x": "y"}}
    other = {**who, **OTHER.get(field, {"tags": {"env": "dev"}})}
    spend(guard, 1, **who)
    assert refusing(guard, **who, cost=1) == ["c"]
    guard.reserve(**other, cost=1)
    assert meters(guard, **who) == {"c": (1, 0)}
    assert list(state(guard, **who).scope) == [field]


# users


def test_a_users_cap_is_merged_into_the_plans_cap_of_that_id(guard: Guard) -> None:
    """0.50 instead of 5; the other fields stay."""
    mine = guard.status(user="user_4421").caps["monthly"]
    assert (mine.limit, mine.unit, mine.resets_at) == (Decimal("0.5"), "usd", datetime(2026, 2, 1, tzinfo=UTC))
    assert refusing(guard, user="user_4421", cost="0.51") == ["monthly"]
    guard.reserve(user="u1", cost="0.51")


def test_a_users_plan(opened: Opened) -> None:
    plans = {"free": {"caps": [cap(limit=1)]}, "pro": {"caps": [cap(limit=9)]}}
    guard = opened({"default_plan": "free", "plans": plans, "users": {"u1": {"plan": "pro"}}})
    assert (state(guard).limit, state(guard, user="u2").limit) == (9, 1)


def test_the_plan_is_the_calls_the_contexts_the_assigned_the_users_the_default(opened: Opened) -> None:
    """In this order; each is named only where the ones before it say nothing."""
    names = ["call", "context", "assigned", "users", "default"]
    plans = {name: {} for name in names}
    guard = opened(caps(plans=plans, default_plan="default", users={"u1": {"plan": "users"}, "u2": {"plan": "users"}}))
    guard.assign(user="u1", plan="assigned")
    with identify(plan="context"):
        found = [guard.status(user="u1", plan="call").plan, guard.status(user="u1").plan]
    found += [guard.status(user=user).plan for user in ("u1", "u2", "u3")]
    assert found == names


def test_override_over_user_over_plan_over_none(opened: Opened) -> None:
    plans = {"p": {"caps": [cap("a", 1), cap("b", 1), cap("d", 1)]}}
    own = {"u1": {"caps": [cap("b", 2), cap("d", 2), cap("own", 2)]}}
    guard = opened({"default_plan": "p", "plans": plans, "users": own})
    guard.override(user="u1", cap="d", limit=3)
    assert {each.id: each.limit for each in guard.status(user="u1").caps} == {"a": 1, "b": 2, "d": 3, "own": 2}
    assert {each.id: each.limit for each in guard.status(user="u2").caps} == {"a": 1, "b": 1, "d": 1}


# downgrade, prices, units


@pytest.mark.parametrize(
    ("model", "cheaper"),
    [
        ("gpt-4o", "gpt-4o-mini"),
        ("claude-opus-4-20250514", "claude-sonnet-4"),
        ("claude-opus-4", "claude-sonnet-4"),
        ("gpt-4.1", "gpt-4.1"),
    ],
)
def test_downgrade_names_the_cheaper_model_by_pattern(guard: Guard, model: str, cheaper: str) -> None:
    spend(guard, 49, plan="pro")
    assert guard.reserve(**{**GPT, "model": model}).model == cheaper


def test_to_names_the_model_itself(opened: Opened) -> None:
    """Before the map."""
    steering = cap(limit=0, action="downgrade", to="gpt-4.1-nano")
    guard = opened({"caps": [steering], "downgrade": {"gpt-4o": "gpt-4o-mini"}})
    assert guard.reserve(**{**GPT, "plan": None}).model == "gpt-4.1-nano"


def test_prices_are_usd_per_million_tokens(guard: Guard) -> None:
    """3 in at 1.00 and 5 out at 2.00 per million are 13 millionths of a dollar."""
    guard.settle(guard.reserve(user="u1", model="my-model", prompt="x"), usage=Usage(input_tokens=3, output_tokens=5))
    assert last(guard).cost == Decimal("0.000013")


@pytest.mark.parametrize(
    "per_token",
    [
        pytest.param("0.00000015", id="gpt-4o-mini"),
        pytest.param("0.0000025", id="gpt-4o"),
        pytest.param("0.000015", id="claude-opus-4"),
        pytest.param("0.0006", id="o1-pro, the dearest"),
        pytest.param("700", id="beyond every price per million"),
    ],
)
def test_prices_are_never_per_token(opened: Opened, per_token: str) -> None:
    """A price that only makes sense per token is a finding with its place; believed, no cap would ever fill."""
    with pytest.raises(PolicyError) as error:
        opened({"prices": {"my-model": {"input": per_token, "output": per_token}}})
    assert {each.place for each in error.value.findings} == {"prices.my-model.input", "prices.my-model.output"}


def test_units_of_ones_own_by_usage_quantity(opened: Opened) -> None:
    """100 and 400 credits per million tokens, 1 per request: 1 + 0.2 + 0.4."""
    credits = {"gpt-4o": {"input": 100, "output": 400, "request": 1}}
    guard = opened({"caps": [cap(limit=3, unit="credits")], "units": {"credits": credits}})
    usage = Usage(input_tokens=2_000, output_tokens=1_000)
    guard.settle(guard.reserve(user="u1", model="gpt-4o", prompt="x"), usage=usage)
    assert state(guard).settled == Decimal("1.6")
    assert refusing(guard, user="u1", model="gpt-4o", usage=usage) == ["c"]
    guard.reserve(user="u1", model="gpt-4o-mini", usage=usage)  # which has no rate in credits


def test_credits_of_the_example_stand_on_the_entry(guard: Guard) -> None:
    guard.settle(guard.reserve(**GPT), usage=Usage(input_tokens=2_000, output_tokens=1_000))
    assert last(guard).amounts["credits"] == Decimal("1.6")


# alerts


def test_alerts_thresholds(guard: Guard) -> None:
    """50, 80, 95 and 100% of a limit, each once, in rising order."""
    told = listen(guard, "threshold")
    for amount in (1, "1.5", "0.1", "1.4", 1, 1):
        spend(guard, amount)
    assert [(event.cap, event.threshold, event.amount) for event in told] == [
        ("monthly", Decimal("0.5"), Decimal("2.5")),
        ("monthly", Decimal("0.8"), Decimal(4)),
        ("monthly", Decimal("0.95"), Decimal(5)),
        ("monthly", Decimal(1), Decimal(5)),
    ]


def test_alerts_of_ones_own(opened: Opened) -> None:
    guard = opened(caps(cap(limit=10), alerts={"thresholds": [0.25, 2]}))
    told = listen(guard, "threshold")
    for _ in range(4):
        spend(guard, 5)
    assert [(event.threshold, event.amount) for event in told] == [(Decimal("0.25"), 5), (2, 20)]


# failure


@pytest.mark.parametrize(("on_expiry", "booked"), [(None, BIG), ("charge_expected", BIG), ("release", 0)])
def test_failure_on_expiry(opened: Opened, clock: ManualClock, on_expiry: str | None, booked: Decimal) -> None:
    """What an expired reservation books: the expected cost by default, or nothing."""
    guard = opened(caps(cap(), failure={} if on_expiry is None else {"on_expiry": on_expiry}))
    guard.reserve(**ASK)
    clock.advance(minutes=10)
    assert meters(guard) == {"c": (booked, 0)}
    assert (last(guard).kind, last(guard).flags) == ("expire", ("uncertain",) if booked else ())


UNKNOWN: dict[str, Any] = {**ASK, "model": "unheard-of"}


def test_failure_unknown_model_is_held_and_charged_at_the_ceiling(guard: Guard) -> None:
    """15 in and 75 out per million: 1 and 100 tokens are held at 0.007515; flagged."""
    reservation = guard.reserve(**UNKNOWN)
    assert reservation.held == Decimal("0.007515")
    guard.settle(reservation, usage=Usage(input_tokens=1, output_tokens=10))
    assert (last(guard).cost, last(guard).flags) == (Decimal("0.000765"), ("ceiling",))


def test_failure_ceiling_of_ones_own(opened: Opened) -> None:
    guard = opened(caps(cap(), failure={"ceiling": {"input": 100, "output": 200}}))
    assert guard.reserve(**UNKNOWN).held == Decimal("0.0201")


def test_failure_unknown_model_denied(opened: Opened) -> None:
    guard = opened(caps(cap(), failure={"unknown_model": "deny"}))
    with pytest.raises(UnknownModel, match="unheard-of"):
        guard.reserve(**UNKNOWN)
    assert list(guard.entries()) == []


def test_failure_unknown_model_allowed(opened: Opened) -> None:
    """Booked as unpriced: nothing in dollars, flagged and told; its tokens and requests count."""
    guard = opened(caps(cap(limit=0), cap("tokens", 50, unit="tokens"), failure={"unknown_model": "allow"}))
    told = listen(guard, "unpriced")
    guard.settle(guard.reserve(**{**UNKNOWN, "max_tokens": 10}), usage=Usage(input_tokens=1, output_tokens=10))
    assert (last(guard).cost, last(guard).flags, len(told) > 0) == (0, ("unpriced",), True)
    assert state(guard, "tokens").settled == 11


def test_failure_missing_identity_is_denied(guard: Guard) -> None:
    """A cap needs the user and the call names none."""
    with pytest.raises(IdentityMissing):
        guard.reserve(cost=1)
    assert list(guard.entries()) == []


def test_failure_missing_identity_may_be_anonymous(opened: Opened) -> None:
    """They share one meter."""
    guard = opened(caps(cap(limit=1), failure={"missing_identity": "anonymous"}))
    guard.reserve(cost=1)
    with pytest.raises(CapExceeded) as error:
        guard.reserve(cost=1)
    assert error.value.cap.scope == {"user": None}
    guard.reserve(user="u1", cost=1)


# what the example has no room for


def test_free_models_cost_no_money(opened: Opened) -> None:
    """`free = true` says so outright; a price of 0 without it is refused."""
    guard = opened({"prices": {"local": {"free": True}}, "caps": [cap(limit=0)]})
    assert guard.reserve(user="u1", model="local", prompt="x").held == 0
    with pytest.raises(PolicyError):
        opened({"prices": {"local": {"input": 0, "output": 0}}})


def test_required_refuses_a_call_without_the_field(opened: Opened) -> None:
    guard = opened(caps(cap(per=["team"], required=True)))
    with pytest.raises(IdentityMissing, match="team"):
        guard.reserve(user="u1", cost=1)
    guard.reserve(user="u1", team="t", cost=1)


def test_an_override_until_a_time_ends_by_itself(opened: Opened, clock: ManualClock) -> None:
    guard = opened(caps(cap(limit=1)))
    guard.override(user="u1", cap="c", limit=9, until=clock.now + timedelta(hours=1))
    assert state(guard).limit == 9
    clock.advance(hours=1)
    assert state(guard).limit == 1


def test_estimate_output_is_held_where_a_call_sets_no_limit(opened: Opened) -> None:
    """1024 tokens by default: 1 in and 1024 out."""
    ask = {"user": "u1", "model": "big", "prompt": "x"}
    assert opened(caps(cap())).reserve(**ask).held == Decimal("0.02049")
    assert opened(caps(cap(), estimate={"output": 100})).reserve(**ask).held == BIG
