"""How a reservation ends: its hold is replaced by what is booked, in one place for settle, release and expiry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from capguard.ledger.books import Books
from capguard.ledger.caps import Amounts, Move
from capguard.ledger.outcomes import Record, State

SWEEP_BATCH = 100
"""Reservations that one step ends or forgets at most."""


def book(
    books: Books, record: Record, state: State, kind: str, amounts: Amounts, facts: Mapping[str, Any], now_ms: int
) -> Record:
    """Replace whatever `record` holds or has booked by `amounts`; what goes beyond a limit is that meter's overrun."""
    moves: list[Move] = []
    overrun: dict[str, int] = {}
    for leg, held in zip(record.legs, record.amounts, strict=True):
        holding = held if record.state == "held" else 0
        before = record.booked.get(leg.unit, 0)
        actual = amounts.get(leg.unit, 0)
        excess = 0
        if actual - before - holding > 0:
            used = books.meter(leg).used
            excess = max(0, used + actual - before - holding - max(leg.limit, used))
            if excess and leg.enforcing:
                overrun[leg.unit] = max(excess, overrun.get(leg.unit, 0))
        moves.append(Move(leg.meter, leg.period, actual - before, -holding, excess))
    books.move(moves)
    body = {"amounts": amounts, "facts": facts, "overrun": overrun, "moves": moves}
    entry = books.append(now_ms, kind, record.id, record.identity.get("user"), body)
    booked = replace(record, state=state, booked=dict(amounts), overrun=overrun, entry=entry)
    books.update(booked, now_ms + record.retention_ms)
    return booked


def sweep(books: Books, now_ms: int) -> int:
    """End what is overdue, with no daemon: expired holds are booked as stated, ended ones forgotten. How many."""
    overdue = list(books.due(now_ms, SWEEP_BATCH))
    for record in overdue:
        if record.state == "held":
            amounts = record.expected if record.on_expiry == "charge_expected" else {}
            facts = {"uncertain": True, "cause": "expired"} if amounts else {"cause": "expired"}
            book(books, record, "expired", "expire", amounts, facts, now_ms)
        else:
            books.forget(record.id)
    return len(overdue)
