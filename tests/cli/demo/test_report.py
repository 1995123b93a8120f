"""The demo's numbers come from the ledger, and those that must agree are checked."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pytest
from rich.console import Console

from capguard import CapExceeded, Guard, Usage
from capguard.cli.demo.ending import show_ending
from capguard.cli.demo.report import Report, report
from capguard.cli.demo.tally import Tally
from capguard.cli.demo.traffic import MODEL, Ask
from capguard.cli.demo.worker import BLOCKED, SERVED
from capguard.ledger.money import dollars

POLICY = {
    "plans": {
        "free": {"caps": [{"id": "monthly", "limit": "0.02"}]},
        "pro": {
            "caps": [
                {"id": "notice", "limit": 0, "action": "warn"},
                {"id": "cheaper", "limit": "0.02", "action": "downgrade"},
            ]
        },
    },
    "downgrade": {"gpt-4o": "gpt-4o-mini"},
}
TODO = [Ask(f"demo-{n}", 0.0, "fay" if n < 3 else "pia", "free" if n < 3 else "pro", 1000, 1000) for n in range(6)]


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard("memory://", policy=POLICY) as guard:
        yield guard


@pytest.fixture
def tally(guard: Guard) -> Tally:
    """Each call holds 0.0125 dollars and costs that: one of three free ones fits, one of three pro ones on gpt-4o."""
    outcomes = [SERVED] * len(TODO)
    for number, ask in enumerate(TODO):
        try:
            usage = Usage(input_tokens=1000, output_tokens=1000)
            held = guard.reserve(id=ask.id, user=ask.user, plan=ask.plan, model=MODEL, usage=usage)
            guard.settle(held, usage=usage)
        except CapExceeded:
            outcomes[number] = BLOCKED
    tally = Tally(guard, TODO, outcomes)
    tally.catch_up()
    return tally


@pytest.fixture
def ended(guard: Guard, tally: Tally) -> Report:
    return report(guard, TODO, tally, provider_calls=4, seconds=1)


COST, CHEAP = Decimal("0.0125"), Decimal("0.00075")


def test_rows(tally: Tally) -> None:
    """Per plan: who called, how often, what was spent, what a cap did."""
    free, pro = tally.rows["free"], tally.rows["pro"]
    assert (free.users, free.calls, free.spent, free.held, free.blocked) == ({"fay"}, 3, COST, 0, 2)
    assert (pro.users, pro.calls, pro.spent, pro.held) == ({"pia"}, 3, COST + 2 * CHEAP, 0)
    assert (pro.blocked, pro.downgraded, pro.warned) == (0, 2, 3)


def test_catching_up_counts_once(tally: Tally) -> None:
    before = [row.to_dict() for row in tally.rows.values()]
    tally.catch_up()
    assert [row.to_dict() for row in tally.rows.values()] == before


def test_held(guard: Guard) -> None:
    """A call in flight is held, not spent; released, it is neither."""
    guard.reserve(id="demo-0", user="fay", plan="free", cost="0.01")
    tally = Tally(guard, TODO, [0] * len(TODO))
    tally.catch_up()
    assert (tally.total("held"), tally.total("spent")) == (Decimal("0.01"), 0)
    guard.release("demo-0")
    tally.catch_up()
    assert (tally.total("held"), tally.total("spent")) == (0, 0)


def test_savings(ended: Report) -> None:
    """Blocked calls save their whole cost, downgraded ones the difference."""
    assert ended.without_caps == dollars(sum(ask.cost() for ask in TODO)) == 6 * COST
    assert ended.saved_by_blocking == 2 * COST
    assert ended.saved_by_downgrading == 2 * (COST - CHEAP)


def test_all_agree(ended: Report) -> None:
    assert all(ended.checks.values())
    assert ended
    assert [(one.user, one.cap.id) for one in ended.nearest] == [("fay", "monthly")]


def test_a_stray_call_shows(ended: Report) -> None:
    """A call that reached the provider without being allowed ends the demo with 1."""
    assert not replace(ended, provider_calls=5)


def test_wrong_savings_show(ended: Report) -> None:
    assert not replace(ended, saved_by_blocking=Decimal(0))


def test_a_cap_over_its_limit_shows(guard: Guard, tally: Tally, ended: Report) -> None:
    """An overrun explains what is over a limit; nothing else does."""
    over = replace(ended.nearest[0].cap, settled=Decimal(1))
    assert not replace(ended, over=(over,))
    guard.settle(guard.reserve(user="fay", plan="free", cost="0.001"), cost="0.5")
    assert report(guard, TODO, tally, 4, 1).over == ()


def test_what_is_still_held_shows(guard: Guard) -> None:
    guard.reserve(id="demo-0", user="fay", plan="free", cost="0.0125")
    tally = Tally(guard, TODO[:1], [SERVED])
    tally.catch_up()
    assert not report(guard, TODO[:1], tally, 1, 1).checks["nothing is held any more"]


def test_ending(ended: Report) -> None:
    """The last page names the saving, the counts, each check and where the data is from."""
    page = io.StringIO()
    show_ending(Console(file=page, width=160), replace(ended, provider_calls=5), None)
    shown = page.getvalue()
    for text in (
        "saved $0.05 (65%)",
        "4 allowed, 2 blocked; 5 calls reached",
        "FAIL the provider",
        "0 differences",
        "CC-BY 4.0",
    ):
        assert text in shown
