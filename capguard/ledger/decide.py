"""The decision, once, for every store that can run Python inside its atomic step.

Everything is read and judged before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from capguard.ledger.books import Books
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
from capguard.ledger.ending import sweep
from capguard.ledger.judge import judge
from capguard.ledger.outcomes import (
    Denied,
    Found,
    Held,
    Lines,
    Made,
    Meters,
    Mismatch,
    Outcome,
    Record,
    Refused,
    Stale,
    State,
    Unknown,
)
from capguard.ledger.second_phase import extend, release, settle
from capguard.ledger.verify import verify

SWEEP_ROUNDS = 20
"""Batches of overdue reservations that a decision ends before it refuses."""

MINUTE_MS = 60_000


def reserve(books: Books, command: Reserve, now_ms: int) -> Held | Denied | Stale | Mismatch:
    """Hold one candidate against all its caps, or none."""
    sweep(books, now_ms)
    known = books.reservation(command.id)
    if known is not None:
        return _replay(known, command)
    if not command.valid_from <= now_ms < command.valid_until:
        return Stale(now_ms)
    chosen, passed, refused = _judged(books, command, now_ms)
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
    chosen, passed, refused = _judged(books, wanted, now_ms)
    candidate = wanted.candidates[chosen]
    if refused:
        return Denied(refused, candidate.model, now_ms)
    return Held(_record(wanted, _made(wanted, candidate, {}, now_ms), (), entry=0), passed, chosen)


def _judged(books: Books, command: Reserve, now_ms: int) -> tuple[int, tuple[Refused, ...], tuple[Refused, ...]]:
    """The verdict; before it refuses, more of what is overdue has ended."""
    verdict = judge(books, command.candidates)
    rounds = 1
    while verdict[2] and rounds < SWEEP_ROUNDS and sweep(books, now_ms):
        verdict, rounds = judge(books, command.candidates), rounds + 1
    return verdict


def _replay(known: Record, command: Reserve) -> Held | Mismatch:
    if known.state == "tombstone" or known.fingerprint != command.fingerprint:
        return Mismatch(known.id, known.state)
    chosen = next((i for i, each in enumerate(command.candidates) if each.model == known.made.model), 0)
    return Held(known, (), chosen, replayed=True)


def _hold(books: Books, command: Reserve, candidate: Candidate, passed: tuple[Refused, ...], now_ms: int) -> Record:
    """Write the decision down: the meters, the entry, the reservation."""
    made = _made(command, candidate, _facts(command.facts, passed), now_ms)
    amounts = tuple([made.held.get(leg.unit, 0) for leg in made.legs])
    books.open(made.legs, amounts, settled=command.book)
    kind = "book" if command.book else "reserve"
    entry = books.append(now_ms, kind, command.id, made.identity.get("user"), made._asdict())
    record = _record(command, made, amounts, entry)
    books.add(record, now_ms + command.retention_ms if command.book else record.expires_ms + command.grace_ms)
    return record


def _facts(facts: Mapping[str, Any], passed: tuple[Refused, ...]) -> Mapping[str, Any]:
    """What the entry says, with the caps that told or steered, by action."""
    if not passed:
        return facts
    told: dict[str, list[str]] = {}
    for miss in passed:
        told.setdefault(miss.leg.action, []).append(miss.leg.cap)
    return {**facts, **told}


def _made(command: Reserve, candidate: Candidate, facts: Mapping[str, Any], now_ms: int) -> Made:
    return Made(
        candidate.model,
        candidate.legs,
        candidate.held,
        candidate.expected,
        command.identity,
        candidate.rates,
        facts,
        command.on_expiry,
        now_ms,
        command.grace_ms,
        command.retention_ms,
    )


def _record(command: Reserve, made: Made, amounts: tuple[int, ...], entry: int) -> Record:
    state: State = "settled" if command.book else "held"
    booked = made.held if command.book else {}
    expires_ms = made.created_ms + command.ttl_ms
    return Record(command.id, command.fingerprint, state, made, amounts, expires_ms, entry, booked)


def fetch(books: Books, command: Fetch, _now_ms: int) -> Found | Unknown:
    record = books.reservation(command.id)
    return Unknown(command.id) if record is None or record.state == "tombstone" else Found(record)


def look(books: Books, command: Look, now_ms: int) -> Meters:
    sweep(books, now_ms)
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
