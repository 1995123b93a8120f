"""The world that customers ask about: what is included, a promo credit, and three caps that look at them differently.

    included   $50 a month, pays first, issued afresh
    promo      $10 of credit, pays next, given away
    overage    at most $20 a month of what neither paid
    week       at most $15 a week of the same money, on a clock of its own
    margin     at most $28 a month of all that the plan does not include: promo credit counts here

Every balance below can be checked by hand: what is used of each source, what is counted on each cap.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from capguard import Guard
from capguard.policy.load import load_policy
from capguard.testing import ManualClock
from tests.promises.kit import Opened, listen, refused, refusing, spend

PLAN: dict[str, Any] = {
    "price": 79,
    "included": {"amount": 50},
    "caps": [
        {"id": "overage", "limit": 20, "overage_only": True, "ignore_grants": True},
        {"id": "week", "limit": 15, "window": "weekly:mon", "overage_only": True, "ignore_grants": True},
        {"id": "margin", "limit": 28, "overage_only": True},
    ],
}
POLICY = {"default_plan": "pro", "plans": {"pro": PLAN}}
EXAMPLE = Path(__file__).parents[2] / "examples" / "customers.py"

TUESDAY = datetime(2026, 3, 3, 9, tzinfo=UTC)
MONDAY = datetime(2026, 3, 9, 9, tzinfo=UTC)
APRIL = datetime(2026, 4, 1, tzinfo=UTC)


@pytest.fixture
def guard(opened: Opened, clock: ManualClock) -> Guard:
    clock.set(TUESDAY)
    made = opened(POLICY)
    made.grant(user="u1", amount=10, id="promo", until=APRIL)
    return made


def used(guard: Guard) -> dict[str, Decimal]:
    """Of the sources and the caps, in the order of the table above; a source that does not pay any more is left out."""
    status = guard.status(user="u1")
    assert status.included is not None
    sources = {each.id: each.settled for each in (status.included, *status.grants)}
    return sources | {each.id: each.settled for each in status.caps}


def balances(included: Any, promo: Any, overage: Any, week: Any, margin: Any) -> dict[str, Any]:
    return {"included": included, "promo": promo, "overage": overage, "week": week, "margin": margin}


def test_a_month_of_one_customer(guard: Guard, clock: ManualClock) -> None:
    """Call by call: who pays, what each cap counts, and which cap says no first."""
    spend(guard, 40)  # all of it included
    assert used(guard) == balances(40, 0, 0, 0, 0)

    spend(guard, 14)  # 10 included, then 4 of promo; margin counts the 4
    assert used(guard) == balances(50, 4, 0, 0, 4)

    spend(guard, 11)  # 6 of promo, 5 of overage; margin counts all 11
    assert used(guard) == balances(50, 10, 5, 5, 15)

    spend(guard, 9)  # overage only, on three caps
    assert used(guard) == balances(50, 10, 14, 14, 24)

    error = refused(guard, user="u1", cost=2)  # 14 + 2 > 15 this week; 14 + 2 <= 20 this month; 24 + 2 <= 28
    assert [(each.id, each.resets_at) for each in error.caps] == [("week", datetime(2026, 3, 9, tzinfo=UTC))]

    clock.set(MONDAY)  # the week is new, the month is not
    spend(guard, 2)
    assert used(guard) == balances(50, 10, 16, 2, 26)

    error = refused(guard, user="u1", cost=3)  # 16 + 3 <= 20, 2 + 3 <= 15, but 26 + 3 > 28
    assert [(each.id, each.resets_at) for each in error.caps] == [("margin", APRIL)]
    assert refusing(guard, user="u1", cost=5) == ["overage", "margin"]  # 16 + 5 > 20 too

    clock.set(APRIL)  # $50 afresh, the promo is over, every monthly cap at 0; its Wednesday is in a week of its own
    status = guard.status(user="u1")
    assert status.included is not None
    assert (status.included.remaining, status.grants) == (50, ())
    spend(guard, 60)
    april = used(guard)
    assert april == {name: amount for name, amount in balances(50, 0, 10, 10, 10).items() if name != "promo"}


def test_does_the_cap_watch_all_spend_or_only_what_is_not_included(guard: Guard) -> None:
    """Only that: $50 may be spent under an overage cap of $20 without using any of it."""
    spend(guard, 50)
    assert [cap.remaining for cap in guard.status(user="u1").caps] == [20, 15, 28]


def test_does_promo_credit_count_against_the_overage_cap(guard: Guard) -> None:
    """No: $60 are paid by the plan and the promo. With both the customer may spend 50 + 10 + 15 this week."""
    spend(guard, 60)
    assert [cap.remaining for cap in guard.status(user="u1").caps] == [20, 15, 18]
    assert guard.check(user="u1", cost=15)
    assert refusing(guard, user="u1", cost="15.01") == ["week"]


def test_does_promo_credit_count_against_the_margin(guard: Guard) -> None:
    """Yes: we pay for it. A larger promo lets nobody past $28 beyond the plan."""
    receipt = guard.grant(user="u1", amount=100, id="larger")
    assert receipt.loosens == ("overage", "week")
    assert guard.check(user="u1", cost=78)  # 50 included + 28
    assert refusing(guard, user="u1", cost="78.01") == ["margin"]


def test_does_it_reset_with_the_plan_or_on_its_own_clock(guard: Guard) -> None:
    """The allowance, overage and margin with the month; the week on Monday."""
    status = guard.status(user="u1")
    assert status.included is not None
    assert status.included.expires_at == APRIL
    assert {cap.id: cap.resets_at for cap in status.caps} == {
        "overage": APRIL, "margin": APRIL, "week": datetime(2026, 3, 9, tzinfo=UTC),
    }  # fmt: skip


def test_what_is_in_flight_is_split_as_well(guard: Guard) -> None:
    """Three calls at once of $30, $35 and $6: 50 included, 10 promo, 11 of overage are held, nothing is settled."""
    calls = [guard.reserve(user="u1", cost=cost) for cost in (30, 35, 6)]
    status = guard.status(user="u1")
    assert status.included is not None
    assert [status.included.held, status.grants[0].held] == [50, 10]
    assert [(cap.settled, cap.held) for cap in status.caps] == [(0, 11), (0, 11), (0, 21)]
    for call in calls:
        guard.release(call)
    assert used(guard) == balances(0, 0, 0, 0, 0)


def test_a_call_that_was_cheaper_gives_back_the_overage_first(guard: Guard) -> None:
    """Held at $70 (50 + 10 + 10), settled at $55: 50 included and 5 of promo, no overage at all."""
    reservation = guard.reserve(user="u1", cost=70)
    guard.settle(reservation, cost=55)
    assert used(guard) == balances(50, 5, 0, 0, 5)


def test_a_top_up_is_used_after_the_promo_that_ends(guard: Guard, clock: ManualClock) -> None:
    """$65: 50 included, 10 of promo, 5 of a $20 top-up; in April the other 15 are still there."""
    guard.grant(user="u1", amount=20, id="top-up")
    spend(guard, 65)
    assert used(guard) == {**balances(50, 10, 0, 0, 15), "top-up": 5}
    clock.set(APRIL)
    assert {grant.id: grant.remaining for grant in guard.status(user="u1").grants} == {"top-up": 15}


def test_the_customer_is_told_when_it_runs_out(guard: Guard) -> None:
    """Of the allowance, of the promo, and of half of what the caps allow."""
    told = listen(guard)
    spend(guard, 70)  # 50 + 10 + 10 of overage: half of 20, two thirds of 15; 20 of 28 on the margin
    assert [(event.name, event.cap, event.threshold) for event in told] == [
        ("threshold", "overage", Decimal("0.5")),
        ("threshold", "week", Decimal("0.5")),
        ("threshold", "margin", Decimal("0.5")),
        ("included_used_up", "included", 1),
        ("grant_used_up", "promo", 1),
    ]


# the example that we show


def test_the_example_has_the_same_caps() -> None:
    """$50 included, $20 a month, $15 a week, and a margin: each leaves out what it does in the world above."""
    pro = load_policy(EXAMPLE.with_suffix(".toml")).plans["pro"]
    mine = load_policy(POLICY).plans["pro"]
    assert pro.included is not None
    assert (pro.price, pro.included.amount) == (79, 50)
    shown = [(cap.id, cap.window.partition(":")[0], cap.overage_only, cap.ignore_grants) for cap in pro.caps]
    assert shown == [(cap.id, cap.window.partition(":")[0], cap.overage_only, cap.ignore_grants) for cap in mine.caps]
    assert [cap.limit for cap in pro.caps] == [20, 15, 40]


BY_HAND = [  # what was spent, and the sums after it: included 50, promo 20, top-up 10, overage 20, week 15, margin 40
    ("Tue  3 Mar", 45, ["45", "0", "-", "0", "0", "0"]),  # all included
    ("Tue  3 Mar", 10, ["50", "5", "-", "0", "0", "5"]),  # 5 included, 5 promo: margin 5
    ("Wed  4 Mar", 20, ["50", "20", "-", "5", "5", "25"]),  # 15 promo, 5 overage: margin 5 + 20
    ("Thu  5 Mar", 10, ["50", "20", "-", "15", "15", "35"]),  # 10 overage: the week is full
    ("Fri  6 Mar", 1, "week"),  # 15 + 1 > 15
    ("Mon  9 Mar", 5, ["50", "20", "-", "20", "5", "40"]),  # a new week; overage and margin are full
    ("Mon  9 Mar", 1, "overage, margin"),
    ("Mon  9 Mar", 1, "margin"),  # with a top-up the overage is spared, the margin is not
    ("Wed  1 Apr", 55, ["50", "-", "5", "0", "0", "5"]),  # $50 afresh, 5 of the top-up; the promo has ended
    ("Wed  1 Apr", 20, ["50", "-", "10", "15", "15", "25"]),  # 5 of the top-up, 15 overage
]


def test_the_example_prints_what_can_be_checked_by_hand(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(EXAMPLE.parents[1])},
        timeout=60,
    )
    lines = [line for line in done.stdout.splitlines() if "spends" in line]
    for line, (day, amount, expected) in zip(lines, BY_HAND, strict=True):
        said, _, rest = line.partition(f"${amount} ")
        assert said == f"{day}  spends "
        if isinstance(expected, str):
            assert rest.strip().startswith(f"refused by {expected} until ")
        else:
            assert rest.split() == expected
