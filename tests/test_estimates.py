"""What a call is held at: outputs that were learned, limits that are absurd, strict limits, tiers, deployments."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from capguard import CapExceeded, Guard, PolicyError, Usage
from capguard.habits import ENOUGH
from capguard.plugins.hookspecs import hookimpl
from capguard.plugins.manager import plugin_manager
from capguard.testing import ManualClock
from tests.kit import last

Opened = Callable[..., Guard]
HELLO = [{"role": "user", "content": "hello"}]
ASK: dict[str, Any] = {"user": "u1", "model": "m", "messages": HELLO}
PRICES = {"m": {"input": 0, "output": 1, "request": 0}, "small": {"input": 0, "output": "0.5"}}


def policy(limit: object = 1000, **more: Any) -> dict[str, Any]:
    return {"prices": PRICES, "caps": [{"id": "monthly", "limit": str(limit)}], **more}


def output_held(guard: Guard, **call: Any) -> int:
    """Output tokens of a call that is held and dropped."""
    guard.release(guard.reserve(**ASK | call))
    return [entry for entry in guard.entries() if entry.kind == "reserve"][-1].body["held"]["output_tokens"]


def facts(guard: Guard) -> dict[str, Any]:
    return [entry for entry in guard.entries() if entry.kind == "reserve"][-1].body["facts"]


def talk(guard: Guard, lengths: list[int], **call: Any) -> None:
    for length in lengths:
        guard.settle(guard.reserve(**ASK | call), usage=Usage(input_tokens=9, output_tokens=length))


LEARNED = [
    ("too few to believe", [100] * (ENOUGH - 1), {}, 1024, "default"),
    ("enough", [100] * ENOUGH, {}, 103, "history"),
    ("the longest of a hundred", [100] * 103 + [500], {}, 511, "history"),
    ("the caller's limit goes before", [100] * ENOUGH, {"max_tokens": 50}, 50, "limit"),
    ("the caller's limit, above what is usual", [100] * ENOUGH, {"max_tokens": 5000}, 5000, "limit"),
    ("times n", [100] * ENOUGH, {"n": 3}, 309, "history"),
    ("another feature", [100] * ENOUGH, {"feature": "other"}, 1024, "default"),
]


@pytest.mark.parametrize(
    ("lengths", "call", "tokens", "how"), [each[1:] for each in LEARNED], ids=[x[0] for x in LEARNED]
)
def test_output_is_held_as_long_as_replies_were(opened: Opened, lengths, call, tokens, how):
    """The 99th percentile of this feature and model, after 30 replies; how it was found is on the entry."""
    guard = opened(policy())
    talk(guard, lengths)
    assert output_held(guard, **call) == tokens
    assert facts(guard)["how_output"] == how


def test_expected_is_the_average(opened: Opened):
    """What an uncertain end would book is what such calls usually cost, not their bound."""
    guard = opened(policy())
    talk(guard, [100] * 99 + [2000] * 5)
    made = guard.reserve(**ASK)
    assert made.held * 10**6 == 2047
    assert 195 <= made.expected * 10**6 <= 230
    guard.release(made)


ENDS: dict[str, Callable[[Guard, Any], object]] = {
    "a cost": lambda guard, made: guard.settle(made, cost=0),
    "a release": lambda guard, made: guard.release(made),
    "an expectation": lambda guard, made: guard.settle(made),
}


@pytest.mark.parametrize("end", ENDS)
def test_only_reported_lengths_are_learned(opened: Opened, end: str):
    """A cost, a release and an expectation say nothing of a length."""
    guard = opened(policy())
    for _ in range(ENOUGH):
        ENDS[end](guard, guard.reserve(**ASK))
    assert output_held(guard) == 1024


def test_n_replies_are_learned_one_by_one(opened: Opened):
    """300 tokens of three replies are three of a hundred."""
    guard = opened(policy())
    talk(guard, [300] * ENOUGH, n=3)
    assert output_held(guard) == 103


SHARES = [
    ("room enough", 1000, {}, {"max_tokens": 999_999}, 999_999, "limit"),
    ("half of the cap", 1, {}, {"max_tokens": 999_999}, 500_000, "share"),
    ("as the policy says", 1, {"share": "0.1"}, {"max_tokens": 999_999}, 100_000, "share"),
    ("for all replies", 1, {}, {"max_tokens": 999_999, "n": 2}, 500_000, "share"),
    ("never below what is usual", "0.001", {"output": 900}, {"max_tokens": 999_999}, 900, "share"),
    ("a limit below what is usual is believed", "0.001", {}, {"max_tokens": 900}, 900, "limit"),
]


@pytest.mark.parametrize(
    ("limit", "defaults", "call", "tokens", "how"), [x[1:] for x in SHARES], ids=[x[0] for x in SHARES]
)
def test_an_absurd_limit_takes_no_more_than_a_share(opened: Opened, limit, defaults, call, tokens, how):
    """max_tokens=999999 does not pin a whole cap; what is usual is held in any case."""
    guard = opened(policy(limit, estimate=defaults))
    assert output_held(guard, **call) == tokens
    assert facts(guard)["how_output"] == how


def test_two_absurd_limits_leave_no_room(opened: Opened):
    """The share is of the limit: two calls fill a cap, and the third is in flight, not too big."""
    guard = opened(policy(1))
    made = [guard.reserve(**ASK, max_tokens=999_999) for _ in range(2)]
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(**ASK, max_tokens=999_999)
    assert refused.value.reason == "in_flight"
    for each in made:
        guard.release(each)


STRICT = [
    ("the default", {}, {"max_tokens": 1024}),
    ("the caller's limit", {"max_tokens": 50}, {"max_tokens": 50}),
    ("under the caller's name", {"max_completion_tokens": 50}, {"max_completion_tokens": 50}),
    ("an absurd limit", {"max_output_tokens": 999_999_999}, {"max_output_tokens": 500_000_000}),
    ("each of n", {"n": 4}, {"max_tokens": 1024}),
    ("responses", {"messages": None, "input": "hello"}, {"max_output_tokens": 1024}),
    ("a model that reasons", {"model": "o3-of-ours"}, {"max_completion_tokens": 1024}),
]


@pytest.mark.parametrize(("call", "limit"), [each[1:] for each in STRICT], ids=[each[0] for each in STRICT])
def test_strict_puts_what_is_held_into_the_call(opened: Opened, call, limit):
    """So that the reply cannot cost more than its hold; in the name that the caller, or else the model, knows."""
    prices = PRICES | {"o3-of-ours": {"input": 1, "output": 1}}
    guard = opened(policy(1000, estimate={"strict": True}, prices=prices))
    made = guard.reserve(**ASK | call)
    assert {name: value for name, value in made.params.items() if name != "model"} == limit
    held = last(guard).body["held"]["output_tokens"]
    assert held == next(iter(limit.values())) * call.get("n", 1)
    guard.release(made)


def test_strict_on_the_cheaper_model(opened: Opened):
    """The limit that is put in is that of the model that serves."""
    caps = [{"id": "cheaper", "limit": "0.0009", "action": "downgrade", "to": "small"}]
    guard = opened({"prices": PRICES, "caps": caps, "estimate": {"strict": True}})
    made = guard.reserve(**ASK)
    assert made.params == {"model": "small", "max_tokens": 1024}
    guard.release(made)


def test_strict_does_not_learn_from_its_own_limits(opened: Opened):
    """A reply that filled the limit it was given might have been longer: the next hold is."""
    guard = opened(policy(estimate={"strict": True}))
    talk(guard, [100] * ENOUGH)
    assert output_held(guard) == 103
    talk(guard, [103] * 8)
    assert output_held(guard) == 207


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_strict_is_yes_or_no(opened: Opened, value: object):
    """Anything else is refused when the policy is loaded."""
    with pytest.raises(PolicyError, match="strict"):
        opened(policy(estimate={"strict": value}))


def usd(guard: Guard, **call: Any) -> tuple[Decimal, Decimal]:
    made = guard.reserve(user="u1", messages=HELLO, **call)
    guard.release(made)
    return made.held, made.expected


TIERS = [
    ({"model": "gpt-4o", "max_tokens": 100}, "0.00102"),  # 8 x 2.50 + 100 x 10 per million
    ({"model": "gpt-4o", "max_tokens": 100, "service_tier": "priority"}, "0.001734"),  # 8 x 4.25 + 100 x 17
    ({"model": "gpt-4o", "max_tokens": 100, "service_tier": "batch"}, "0.00051"),  # half
    ({"model": "gpt-4o", "max_tokens": 100, "service_tier": "auto"}, "0.00102"),
]


@pytest.mark.parametrize(("call", "held"), TIERS)
def test_held_at_the_tier_that_is_asked_for(opened: Opened, call, held):
    """A priority call is held at the priority price: litellm admitted $0.60 on a $0.45 cap."""
    assert usd(opened(policy()), **call)[0] == Decimal(held)


def test_held_at_the_tier_of_its_context(opened: Opened):
    """Above 200k tokens Gemini costs twice as much; a prompt of that size is held, and booked, at that."""
    guard = opened(policy())
    long = "word " * 210_000
    made = guard.reserve(user="u1", model="gemini/gemini-2.5-pro", prompt=long, max_tokens=1000)
    assert made.held > Decimal("0.00000250") * 210_000 + Decimal("0.000015") * 1000
    settled = guard.settle(made, usage=Usage(input_tokens=210_000, output_tokens=1000))
    assert settled.cost == Decimal("0.54")  # 210,000 x 2.50 + 1,000 x 15 per million


def test_settled_at_the_tier_that_served(opened: Opened):
    """The reply says which tier it was, whatever was asked for."""
    guard = opened(policy())
    for service, cost in (("priority", "0.00425"), (None, "0.0025"), ("flex", "0.0025")):
        made = guard.reserve(user="u1", model="gpt-4o", messages=HELLO, max_tokens=10)
        settled = guard.settle(made, usage=Usage(input_tokens=1000, output_tokens=0, service=service))
        assert settled.cost == Decimal(cost)
        assert last(guard).flags == (("partly_priced",) if service == "flex" else ())


def test_settled_by_another_process_at_the_same_rates(opened: Opened):
    """The entry keeps the tiers and fees that the call was reserved at."""
    guard = opened(policy())
    made = guard.reserve(user="u1", model="claude-sonnet-4-5", messages=HELLO, max_tokens=10)
    usage = Usage(input_tokens=1000, cache_write_tokens=500, cache_write_1h_tokens=500, quantities={"searches": 2})
    settled = guard.settle(made.id, usage=usage)
    assert settled.cost == Decimal("0.0245")  # 500 x 3 + 500 x 6 per million, 2 x 0.01


def test_a_cache_of_an_hour_is_held_at_its_price(opened: Opened):
    """Where the prompt asks for it: twice the input, not one and a quarter."""
    guard = opened(policy())
    part = {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    call = {"user": "u1", "model": "claude-sonnet-4-5", "max_tokens": 0}
    hour = guard.reserve(**call, messages=[{"role": "user", "content": [part]}])
    minutes = guard.reserve(**call, messages=[{"role": "user", "content": [part | {"cache_control": None}]}])
    assert hour.held / minutes.held == Decimal(6) / Decimal("3.75")
    assert hour.expected == minutes.expected
    guard.release(hour)
    guard.release(minutes)


DEPLOYMENTS = {"my-deployment": "azure/gpt-4o", "priced": "gpt-4o"}


@pytest.mark.parametrize(
    ("model", "cost"), [("azure/my-deployment", "0.0025"), ("my-deployment", "0.0025"), ("priced", "0.001")]
)
def test_a_deployment_costs_what_its_model_costs(opened: Opened, model: str, cost: str):
    """By the policy's map, with the host's prefix or without; a price of its own goes before."""
    guard = opened(policy(deployments=DEPLOYMENTS, prices={"priced": {"input": 1, "output": 1}}))
    made = guard.reserve(user="u1", model=model, messages=HELLO, max_tokens=1)
    assert made.params["model"] == model
    assert last(guard).body["facts"]["how"] == "exact" or model == "priced"
    assert guard.settle(made, usage=Usage(input_tokens=1000)).cost == Decimal(cost)


@pytest.mark.parametrize(("curated", "model"), [(True, "gpt-4o-mini"), (False, "gpt-4o")])
def test_curated_siblings_where_the_policy_names_none(opened: Opened, curated: bool, model: str):
    """Only where the policy asks for them."""
    guard = opened({"caps": [{"id": "c", "limit": 0, "action": "downgrade"}], "curated_downgrades": curated})
    made = guard.reserve(user="u1", model="gpt-4o", messages=HELLO, max_tokens=1)
    assert made.model == model
    guard.release(made)


def test_prices_of_a_file_that_changes(opened: Opened, tmp_path: Path, clock: ManualClock):
    """A call is booked at the rates of its reserve; the next one at those that came since."""
    file = tmp_path / "prices.json"

    def write(rate: str) -> None:
        dated = {"2027-01-01": {"input": "1.5", "output": 1}}
        file.write_text(json.dumps({"models": {"ours": {"input": rate, "output": 1, "from": dated}}}))

    write("1")
    guard = opened({"caps": [{"id": "monthly", "limit": 5}]}, prices=str(file))
    before = guard.reserve(user="u1", model="ours", messages=HELLO, max_tokens=1)
    write("2.0")
    assert guard._shelf.refresh()
    after = guard.reserve(user="u1", model="ours", messages=HELLO, max_tokens=1)
    million = Usage(input_tokens=1_000_000)
    assert (guard.settle(before, usage=million).cost, guard.settle(after, usage=million).cost) == (1, 2)
    clock.set(datetime(2027, 1, 1, tzinfo=UTC))
    later = guard.reserve(user="u1", model="ours", messages=HELLO, max_tokens=1)
    assert guard.settle(later, usage=million).cost == Decimal("1.5")


@pytest.mark.parametrize("prices", ["nowhere.json", "litellm-of-mine"])
def test_prices_that_are_not_there(opened: Opened, prices: str):
    """A Guard without its price list does not begin."""
    with pytest.raises(ValueError, match=r"prices: .*allowed: bundled, litellm, or the path"):
        opened({}, prices=prices)


class Words:
    """Counts words, for models of its own."""

    exact = True

    def count(self, text: str) -> int:
        return len(text.split())


class Plugin:
    @hookimpl
    def capguard_token_counter(self, model: str) -> Words | None:
        return Words() if model.startswith("words/") else None


def test_a_plugged_counter_counts_its_models(opened: Opened):
    """And no others."""
    plugin = Plugin()
    plugin_manager().register(plugin)
    try:
        guard = opened({"prices": {"*": {"input": 1, "output": 1}}, "caps": [{"id": "m", "limit": 5}]})
        made = guard.reserve(
            user="u1", model="words/one", prompt="incomprehensibilities of antidisestablishment", max_tokens=0
        )
        assert made.held == Decimal("0.000003")
        guard.release(made)
    finally:
        plugin_manager().unregister(plugin)


def test_warm_loads_the_vocabularies_before_the_first_call(monkeypatch: pytest.MonkeyPatch):
    """Not at it."""
    from capguard.pricing import vocabulary

    monkeypatch.setattr(vocabulary, "_loaded", {})
    Guard("memory://", policy={}).close()
    assert vocabulary._loaded == {}
    Guard("memory://", policy={}, warm=True).close()
    assert [each.name for each in vocabulary._loaded] == ["o200k_base", "cl100k_base"]
