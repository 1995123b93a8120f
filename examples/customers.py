"""Who pays and what counts: an allowance, a promo credit, a top-up, and three caps that look at them differently.

    python examples/customers.py

The policy stands in customers.toml beside this file. Every balance can be checked by hand.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from capguard import CapExceeded, Guard
from capguard.testing import ManualClock

POLICY = Path(__file__).with_name("customers.toml")
PAYS, COUNTS = ("included", "promo", "top-up"), ("overage", "week", "margin")
COLUMNS = PAYS + COUNTS
WIDTHS = (9, 6, 6, 7, 6, 6)


def row(left: str, cells: list[str]) -> None:
    columns = [f" {cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True)]
    print(" ".join([f"{left:<29}", *columns]).rstrip())


def day(moment: datetime) -> str:
    return f"{moment:%a} {moment.day:>2} {moment:%b}"


def balances(guard: Guard) -> list[str]:
    """What is used of every source and counted on every cap; a dash where a grant does not pay any more."""
    status = guard.status(user="ann")
    used = {cap.id: cap.settled for cap in status.caps} | {grant.id: grant.settled for grant in status.grants}
    if status.included is not None:
        used["included"] = status.included.settled
    return [str(used.get(column, "-")) for column in COLUMNS]


def spend(guard: Guard, today: datetime, amount: int) -> None:
    """One call of so many dollars, and where that leaves everything."""
    left = f"{day(today)}  spends ${amount}"
    try:
        with guard.call(user="ann", cost=amount) as call:
            call.settle(cost=Decimal(amount))
    except CapExceeded as refused:
        until = day(refused.resets_at) if refused.resets_at else "for ever"
        print(f"{left:<29}  refused by {', '.join(cap.id for cap in refused.caps)} until {until}")
    else:
        row(left, balances(guard))


def main() -> None:
    """A month of one customer, and the first day of the next."""
    clock = ManualClock(datetime(2026, 3, 3, 9, tzinfo=UTC))
    with Guard("memory://", policy=POLICY, clock=clock) as guard:
        row("", ["pays:", *[""] * (len(PAYS) - 1), "counts:", *[""] * (len(COUNTS) - 1)])
        row("", [*COLUMNS])
        row("", ["of 50", "of 20", "of 10", "of 20", "of 15", "of 40"])
        guard.grant(user="ann", amount=20, until=datetime(2026, 4, 1, tzinfo=UTC), id="promo")
        for days, amount in ((0, 45), (0, 10), (1, 20), (1, 10), (1, 1), (3, 5), (0, 1)):
            spend(guard, clock.advance(days=days), amount)
        receipt = guard.grant(user="ann", amount=10, id="top-up")
        print(f"{day(clock.now)}  {'buys a top-up':<17}  loosens {', '.join(receipt.loosens)}")
        spend(guard, clock.now, 1)
        first_of_april = clock.now + timedelta(days=23)
        clock.set(first_of_april)
        spend(guard, first_of_april, 55)
        spend(guard, first_of_april, 20)


if __name__ == "__main__":
    main()
