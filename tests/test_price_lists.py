"""What customers pay: the plan's own price of a model; without one, what the provider charges times the markup."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from capguard import CapExceeded, Guard, Usage
from tests.kit import ASK, PRICES, last, spent

Opened = Callable[..., Guard]

CALL: dict[str, Any] = {"user": "u1", "model": "big", **ASK}
USED = Usage(input_tokens=1000, output_tokens=100)  # big costs 0.012, small 0.0012
LIST = {"big": {"input": 30, "output": 50}}


def selling(prices: dict[str, Any], *caps: dict[str, Any], **plan: Any) -> dict[str, Any]:
    """A policy with one plan that has a price list, and a cap in `billed`."""
    counted = caps or ({"id": "monthly", "limit": 100, "unit": "billed"},)
    return {
        "prices": PRICES,
        "default_plan": "pro",
        "plans": {"pro": {"prices": prices, "caps": counted, **plan}, "other": {"caps": counted, "markup": 3}},
    }


LISTS: dict[str, tuple[dict[str, Any], Usage, str]] = {
    "a listed model": (LIST, USED, "0.035"),
    "cheaper than the provider": ({"big": {"input": 1, "output": 1}}, USED, "0.0011"),
    "a pattern": ({"b*": {"input": 30, "output": 50}}, USED, "0.035"),
    "the exact name before the longest pattern": ({**LIST, "b?g": {"request": 1}, "*": {"request": 2}}, USED, "0.035"),
    "the longest pattern": ({"*": {"request": 2}, "b*": {"request": 1}}, USED, "1"),
    "per request": ({"big": {"request": "0.25"}}, USED, "0.25"),
    "free to the customer": ({"big": {"free": True}}, USED, "0"),
    "a model that is not listed": ({"small": {"input": 30, "output": 50}}, USED, "0.018"),
    "no list": ({}, USED, "0.018"),
    "caches at their own rates": (
        {"big": {"input": 30, "output": 50, "cache_read": 3, "cache_write": 40}},
        Usage(input_tokens=1000, output_tokens=100, cache_read_tokens=500, cache_write_tokens=100),
        "0.0225",  # 400 at 30, 500 at 3, 100 at 40, 100 at 50
    ),
    "rounded upward, once": (
        {"big": {"input": "0.0013", "output": "0.0013"}},
        Usage(input_tokens=1, output_tokens=1),
        "0.000000003",  # 1300 + 1300 pico-dollars
    ),
}


@pytest.mark.parametrize(("prices", "usage", "billed"), LISTS.values(), ids=LISTS)
def test_what_is_billed(opened: Opened, prices: dict[str, Any], usage: Usage, billed: str) -> None:
    """The list of the plan, as the policy's own prices are read; `usd` stays what the provider charges."""
    guard = opened(selling(prices, markup="1.5"))
    guard.settle(guard.reserve(**CALL), usage=usage)
    booked = last(guard).amounts
    assert booked["billed"] == spent(guard) == Decimal(billed)
    if usage is USED:
        assert booked["usd"] == Decimal("0.012")


def test_each_plan_has_its_own_list(opened: Opened) -> None:
    guard = opened(selling(LIST))
    guard.settle(guard.reserve(**CALL, plan="other"), usage=USED)
    assert last(guard).amounts["billed"] == Decimal("0.036")


def test_the_entry_keeps_both_rates(opened: Opened) -> None:
    """What the provider charges and what the customer pays, as they were at the reserve."""
    guard = opened(selling(LIST))
    guard.reserve(**CALL)
    rates = last(guard).body["rates"]
    assert (rates["price"]["input"], rates["price"]["output"]) == (10_000_000, 20_000_000)
    assert (rates["list_price"]["input"], rates["list_price"]["output"]) == (30_000_000, 50_000_000)


def test_a_settle_that_knows_the_id_alone(opened: Opened) -> None:
    """Another process books at the rates of the entry, whatever its own policy says now."""
    guard = opened(selling(LIST))
    guard.settle(guard.reserve(**CALL).id, usage=USED)
    assert spent(guard) == Decimal("0.035")


@pytest.mark.parametrize("model", ["big", "gpt-4o"], ids=["counted by a factor", "counted exactly"])
def test_a_hold_in_billed_is_a_bound(opened: Opened, model: str) -> None:
    """Whatever the provider's caches make of the input, no more is billed than was held; less is expected."""
    guard = opened(selling({model: {"input": 30, "output": 50, "cache_write": 60}}))
    guard.reserve(user="u1", model=model, prompt="What is a ledger?", max_tokens=1, id="once")
    held, expected = last(guard).body["held"], last(guard).body["expected"]
    tokens = held["input_tokens"]
    assert held["billed"] == 60_000 * tokens + 50_000
    assert expected["billed"] == 30_000 * expected["input_tokens"] + 50_000
    wrote = Usage(input_tokens=tokens, output_tokens=1, cache_write_tokens=tokens)
    guard.settle("once", usage=wrote)
    assert last(guard).body["amounts"]["billed"] == held["billed"]


def test_a_refusal_in_billed(opened: Opened) -> None:
    """The cap counts what the customer pays: a call that costs the provider little is refused."""
    guard = opened(selling({"big": {"request": 5}}, {"id": "monthly", "limit": 4, "unit": "billed"}))
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(**CALL)
    assert (refused.value.cap.requested, refused.value.cap.unit) == (5, "billed")


DOLLARS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "reserved and settled by cost": ({"user": "u1", "cost": 1}, {"cost": 2}, "3"),
    "by cost, of a listed model": ({"user": "u1", "model": "big", "cost": 1}, {"cost": 2}, "3"),
    "by cost, then its usage": ({"user": "u1", "model": "big", "cost": 1}, {"usage": USED}, "0.035"),
    "by a usage, then its cost": ({"user": "u1", "model": "big", "usage": USED}, {"cost": 2}, "0.035"),
    "not listed, by usage, then its cost": ({"user": "u1", "model": "small", "usage": USED}, {"cost": 2}, "3"),
}


@pytest.mark.parametrize(("call", "settled", "billed"), DOLLARS.values(), ids=DOLLARS)
def test_where_only_dollars_are_known(
    opened: Opened, call: dict[str, Any], settled: dict[str, Any], billed: str
) -> None:
    """A list prices tokens. Dollars alone are billed times the markup, or as the list expected it of the tokens."""
    guard = opened(selling(LIST, markup="1.5"))
    guard.settle(guard.reserve(**call), **settled)
    assert spent(guard) == Decimal(billed)


def test_a_downgrade_is_decided_in_billed(opened: Opened) -> None:
    """Each candidate is held at its own price in the list."""
    cheaper = {"id": "monthly", "limit": 4, "unit": "billed", "action": "downgrade", "to": "small"}
    guard = opened(selling({"big": {"request": 5}, "small": {"request": 3}}, cheaper))
    reservation = guard.reserve(**CALL)
    assert (reservation.model, last(guard).amounts["billed"]) == ("small", 3)


def test_a_clamp_is_decided_in_billed(opened: Opened) -> None:
    """The output limit is lowered by the list's price of output."""
    clamp = {"id": "monthly", "limit": "0.008", "unit": "billed", "action": "clamp", "min_output": 1}
    guard = opened(selling({"big": {"input": 0, "output": 100}}, clamp))
    assert guard.reserve(**CALL).params["max_tokens"] == 40  # half of 0.008 at 0.0001 each


def test_a_clamp_leaves_room_for_the_dearest_input(opened: Opened) -> None:
    """What a clamp leaves is a bound too."""
    clamp = {"id": "monthly", "limit": 1, "unit": "billed", "action": "clamp", "min_output": 1}
    guard = opened(selling({"big": {"input": 0, "output": 600, "cache_write": 600}}, clamp))
    reservation = guard.reserve(user="u1", model="big", prompt="x", max_tokens=2000)
    given = int(last(guard).amounts["input_tokens"])
    assert reservation.params["max_tokens"] == 500_000 // 600 - given


async def test_a_call_that_nobody_settles(opened: Opened) -> None:
    """What nobody reported is booked as the list expected it."""
    guard = opened(selling({"big": {"request": 5}}))
    async with guard.call(**CALL):
        pass
    assert (spent(guard), last(guard).flags) == (5, ("uncertain",))


def test_the_report_tells_what_was_billed(opened: Opened) -> None:
    guard = opened(selling(LIST))
    guard.settle(guard.reserve(**CALL), usage=USED)
    (row,) = guard.report(by="plan").rows
    assert (row.cost, row.billed) == (Decimal("0.012"), Decimal("0.035"))
