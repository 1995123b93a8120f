"""The decision, once, for every store that can run Python inside its atomic step.

Everything is read and judged before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from capguard.ledger.books import Books
from capguard.ledger.caps import Leg, Move
from capguard.ledger.commands import (
    Candidate,
    Check,
    Command,
    Extend,
    Fetch,
    Journal,
    Look,
    Release,
    Reserve,
    Settle,
    Verify,
)
from capguard.ledger.ending import SWEEP_BATCH, sweep
from capguard.ledger.judge import judge
from capguard.ledger.outcomes import (
    Denied,
    Found,
    Held,
    Lines,
    Meters,
    Mismatch,
    Outcome,
    Record,
    Refused,
    Stale,
    Unknown,
)
from capguard.ledger.second_phase import extend, release, settle
from capguard.ledger.verify import verify

SWEEP_ROUNDS = 20
"""Batches of overdue reservations that a decision ends before it refuses."""

MINUTE_MS = 60_000


def reserve(books: Books, command: Reserve, now_ms: int) -> Held | Denied | Stale | Mismatch:
    """Hold one candidate against all its caps, or none."""
    ended = sweep(books, now_ms)
    known = books.reservation(command.id)
    if known is not None:
        return _replay(known, command)
    if not command.valid_from <= now_ms < command.valid_until:
        return Stale(now_ms)
    chosen, passed, refused = judge(books, command.candidates)
    rounds = 1
    while refused and ended == SWEEP_BATCH and rounds < SWEEP_ROUNDS:
        ended, rounds = sweep(books, now_ms), rounds + 1
        chosen, passed, refused = judge(books, command.candidates)
    if refused:
        for miss in refused:
            books.deny(miss.leg, now_ms - now_ms % MINUTE_MS)
        return Denied(refused, command.candidates[chosen].model, now_ms)
    return Held(_hold(books, command, command.candidates[chosen], passed, now_ms), passed, chosen)


def check(books: Books, command: Check, now_ms: int) -> Held | Denied | Stale | Mismatch:
    """The decision of a reserve, without its effect."""
    wanted = command.reserve
    sweep(books, now_ms)
    if not wanted.valid_from <= now_ms < wanted.valid_until:
        return Stale(now_ms)
    chosen, passed, refused = judge(books, wanted.candidates)
    candidate = wanted.candidates[chosen]
    if refused:
        return Denied(refused, candidate.model, now_ms)
    return Held(_record(wanted, candidate, {}, now_ms, entry=0), passed, chosen)


def _replay(known: Record, command: Reserve) -> Held | Mismatch:
    if known.state == "tombstone" or known.fingerprint != command.fingerprint:
        return Mismatch(known.id, known.state)
    chosen = next((i for i, each in enumerate(command.candidates) if each.model == known.model), 0)
    return Held(known, (), chosen, replayed=True)


def _hold(books: Books, command: Reserve, candidate: Candidate, passed: tuple[Refused, ...], now_ms: int) -> Record:
    flags = {miss.leg.action: _caps(passed, miss.leg.action) for miss in passed}
    facts = {**command.facts, **flags} if flags else command.facts
    moves = [_opening(books, leg, command.book) for leg in candidate.legs]
    body = {
        "model": candidate.model,
        "identity": command.identity,
        "held": candidate.held,
        "expected": candidate.expected,
        "legs": candidate.legs,
        "rates": candidate.rates,
        "facts": facts,
        "fingerprint": command.fingerprint,
        "on_expiry": command.on_expiry,
        "created_ms": now_ms,
        "grace_ms": command.grace_ms,
        "retention_ms": command.retention_ms,
        "moves": moves,
    }
    kind = "book" if command.book else "reserve"
    entry = books.append(now_ms, kind, command.id, command.identity.get("user"), body)
    record = _record(command, candidate, facts, now_ms, entry)
    due_ms = now_ms + command.retention_ms if command.book else record.expires_ms + command.grace_ms
    books.add(record, due_ms)
    return record


def _caps(passed: tuple[Refused, ...], action: str) -> list[str]:
    return [miss.leg.cap for miss in passed if miss.leg.action == action]


def _opening(books: Books, leg: Leg, book: bool) -> Move:
    settled, held = (leg.amount, 0) if book else (0, leg.amount)
    books.open(leg, settled, held, 0)
    return Move(leg.meter, leg.period, settled, held, 0)


def _record(command: Reserve, candidate: Candidate, facts: Mapping[str, Any], now_ms: int, entry: int) -> Record:
    return Record(
        id=command.id,
        fingerprint=command.fingerprint,
        state="settled" if command.book else "held",
        model=candidate.model,
        legs=candidate.legs,
        amounts=tuple([leg.amount for leg in candidate.legs]),
        held=candidate.held,
        expected=candidate.expected,
        identity=command.identity,
        rates=candidate.rates,
        facts=facts,
        on_expiry=command.on_expiry,
        created_ms=now_ms,
        expires_ms=now_ms + command.ttl_ms,
        grace_ms=command.grace_ms,
        retention_ms=command.retention_ms,
        booked=candidate.held if command.book else {},
        entry=entry,
    )


def fetch(books: Books, command: Fetch, _now_ms: int) -> Found | Unknown:
    record = books.reservation(command.id)
    return Unknown(command.id) if record is None or record.state == "tombstone" else Found(record)


def look(books: Books, command: Look, now_ms: int) -> Meters:
    return Meters(tuple([books.meter(leg) for leg in command.legs]), now_ms)


def journal(books: Books, command: Journal, now_ms: int) -> Lines:
    return Lines(tuple(books.entries(command)), now_ms)


_STEPS: Mapping[type, Callable[[Any, Any, int], Outcome]] = {
    Reserve: reserve,
    Check: check,
    Settle: settle,
    Release: release,
    Extend: extend,
    Fetch: fetch,
    Look: look,
    Journal: journal,
    Verify: verify,
}


def carry_out(books: Books, command: Command, now_ms: int) -> Outcome:
    """Carry out one command inside the store's atomic step."""
    return _STEPS[type(command)](books, command, now_ms)
