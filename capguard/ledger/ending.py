"""How a reservation ends: its hold is replaced by what is booked, in one place for settle, release and expiry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capguard.ledger.books import Books
from capguard.ledger.caps import Amounts, Leg, Move
from capguard.ledger.outcomes import Record, State

SWEEP_BATCH = 100
"""Reservations that one step ends or forgets at most."""


def book(
    books: Books, record: Record, state: State, kind: str, amounts: Amounts, facts: Mapping[str, Any], now_ms: int
) -> Record:
    """Replace whatever `record` holds or has booked by `amounts`; what goes beyond a limit is that meter's overrun."""
    moves: list[Move] = []
    overrun: dict[str, int] = {}
    holding = record.state == "held"
    for leg, amount in zip(record.made.legs, record.amounts, strict=True):
        held = amount if holding else 0
        before = record.booked.get(leg.unit, 0)
        actual = amounts.get(leg.unit, 0)
        excess = 0
        if actual > before + held:
            excess = _excess(books, leg, actual - before - held, now_ms)
            if excess and leg.enforcing:
                overrun[leg.unit] = max(excess, overrun.get(leg.unit, 0))
        moves.append(Move(leg.meter, leg.period, actual - before, -held, excess))
    books.move(moves)
    body = {"amounts": amounts, "facts": facts, "overrun": overrun, "moves": moves}
    entry = books.append(now_ms, kind, record.id, record.user, body)
    ended = record._replace(state=state, booked=amounts, overrun=overrun, entry=entry)
    books.update(ended, now_ms + record.made.retention_ms)
    return ended


def _excess(books: Books, leg: Leg, growth: int, now_ms: int) -> int:
    """How much of what a meter is about to grow by lies beyond its limit.

    A rolling window counts what is in it now, which is not what was in it at the reserve: a bucket that has left it
    can exceed nothing.
    """
    if leg.since != leg.period:
        if now_ms >= leg.ends:
            return 0
        leg = leg._replace(since=now_ms - (leg.ends - leg.period) + 1, period=now_ms)
    used = books.meter(leg).used
    return max(0, used + growth - max(leg.limit, used))


def sweep(books: Books, now_ms: int) -> int:
    """End what is overdue, with no daemon: expired holds are booked as stated, ended ones forgotten. How many."""
    overdue = books.due(now_ms, SWEEP_BATCH)
    for record in overdue:
        if record.state == "held":
            amounts = record.made.expected if record.made.on_expiry == "charge_expected" else {}
            facts = {"flags": ["uncertain"], "cause": "expired"} if amounts else {"cause": "expired"}
            book(books, record, "expired", "expire", amounts, facts, now_ms)
        else:
            books.forget(record.id)
    return len(overdue)
