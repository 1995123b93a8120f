"""The decision, once, for every store that can run Python inside its atomic step.

Everything is read and judged before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from capguard.ledger.books import Books
from capguard.ledger.caps import MeterState
from capguard.ledger.commands import (
    Alerts,
    Check,
    Command,
    Extend,
    Fetch,
    Journal,
    Look,
    PolicyInForce,
    Profile,
    Publish,
    Refusals,
    Release,
    Reserve,
    Settle,
    Share,
    Steer,
    Verify,
)
from capguard.ledger.ending import crossings, final, sweep, window_on
from capguard.ledger.entries import body_of
from capguard.ledger.idle import on_run, on_runs, use
from capguard.ledger.judge import Verdict, judge
from capguard.ledger.outcomes import (
    AlertRows,
    Crossing,
    Denied,
    Found,
    Held,
    Lines,
    Made,
    Meters,
    Mismatch,
    Outcome,
    Record,
    RefusalCounts,
    Shared,
    Stale,
    State,
    Telling,
    Unknown,
)
from capguard.ledger.revisions import policy_in_force, profile, publish, steer
from capguard.ledger.second_phase import extend, release, settle
from capguard.ledger.verify import verify

SWEEP_ROUNDS = 20
"""Batches of overdue reservations that a decision ends before it refuses."""

MINUTE_MS = 60_000


def reserve(books: Books, command: Reserve, now_ms: int) -> Held | Denied | Stale | Mismatch:
    """Hold one candidate against all its caps, or none."""
    known = books.reservation(command.id)
    if known is not None:
        return replay(known, command)
    if stale := _stale(books, command, now_ms):
        return stale
    command = on_runs(books, command, now_ms)
    verdict, swept = _judged(books, command, now_ms)
    if verdict.refused:
        denied = _denied(command, verdict, now_ms)
        if not (command.waits and denied.waits):
            for miss in verdict.refused:
                books.deny(miss.leg, now_ms - now_ms % MINUTE_MS)
        return denied._replace(crossed=swept)
    record, crossed = _hold(books, command, verdict, now_ms)
    return Held(record, verdict.passed, verdict.chosen, output=verdict.output, crossed=swept + crossed)


def check(books: Books, command: Check, now_ms: int) -> Held | Denied | Stale | Mismatch:
    """The decision of a reserve, without its effect."""
    wanted = command.reserve
    if stale := _stale(books, wanted, now_ms):
        return stale
    wanted = on_runs(books, wanted, now_ms)
    verdict, swept = _judged(books, wanted, now_ms)
    if verdict.refused:
        return _denied(wanted, verdict, now_ms)._replace(crossed=swept)
    record = record_of(wanted, made_of(wanted, verdict, now_ms), verdict.shares, entry=0)
    return Held(record, verdict.passed, verdict.chosen, output=verdict.output, crossed=swept)


def _judged(books: Books, command: Reserve, now_ms: int) -> tuple[Verdict, tuple[Crossing, ...]]:
    """The verdict: before it refuses, more of what is overdue has ended. What that crossed."""
    swept: list[Crossing] = []
    verdict = judge(books, command.candidates)
    rounds = 1
    while verdict.refused and rounds < SWEEP_ROUNDS and sweep(books, now_ms, swept):
        verdict, rounds = judge(books, command.candidates), rounds + 1
    return verdict, tuple(swept)


def _stale(books: Books, command: Reserve, now_ms: int) -> Stale | None:
    """Whether the command was built for another time, or from a profile or policy that has changed since."""
    user = command.identity.get("user")
    new_profile = user is not None and books.profile_revision(user) != command.profile
    new_policy = command.policy is not None and books.policy_revision() != command.policy
    if not new_profile and not new_policy and command.valid_from <= now_ms < command.valid_until:
        return None
    profile = books.profile(user) if new_profile and user is not None else None
    return Stale(now_ms, profile, books.policy(None) if new_policy else None)


def _denied(command: Reserve, verdict: Verdict, now_ms: int) -> Denied:
    return Denied(verdict.refused, command.candidates[verdict.chosen].model, now_ms)


def replay(known: Record, command: Reserve) -> Held | Mismatch:
    if known.state == "tombstone" or known.fingerprint != command.fingerprint:
        return Mismatch(known.id, known.state)
    chosen = next((i for i, each in enumerate(command.candidates) if each.model == known.made.model), 0)
    return Held(known, (), chosen, replayed=True, output=known.made.facts.get("output"))


def _hold(books: Books, command: Reserve, verdict: Verdict, now_ms: int) -> tuple[Record, tuple[Crossing, ...]]:
    """Write the decision down: the meters, the entry, the reservation."""
    made = made_of(command, verdict, now_ms)
    after = books.open(made.meters, verdict.shares, settled=command.book)
    crossed = crossings(books, made, made.meters, verdict.shares, after, now_ms) if command.book else ()
    kind = "book" if command.book else "reserve"
    body = body_of(made, verdict.shares, command.ttl_ms)
    entry = books.append(now_ms, kind, command.id, made.identity.get("user"), body)
    record = record_of(command, made, verdict.shares, entry)
    if command.book:
        books.add(final(record, now_ms), now_ms + command.retention_ms)
        use(books, made.legs, now_ms)
    else:
        until_ms = record.expires_ms + command.grace_ms
        books.add(record, until_ms)
        use(books, made.legs, now_ms, until_ms)
    return record, crossed


def _facts(facts: Mapping[str, Any], verdict: Verdict) -> Mapping[str, Any]:
    """What the entry says, with the caps that told or steered, by action, and the output that a clamp left."""
    if not verdict.passed:
        return facts
    told: dict[str, Any] = {}
    for miss in verdict.passed:
        told.setdefault(miss.leg.action, []).append(miss.leg.cap)
    return {**facts, **told} if verdict.output is None else {**facts, **told, "output": verdict.output}


def made_of(command: Reserve, verdict: Verdict, now_ms: int) -> Made:
    candidate = command.candidates[verdict.chosen]
    held = verdict.held
    expected = candidate.expected
    if verdict.output is not None:
        expected = {unit: min(amount, held.get(unit, amount)) for unit, amount in expected.items()}
    return Made(
        candidate.model,
        candidate.legs,
        held,
        expected,
        command.identity,
        candidate.rates,
        _facts(command.facts, verdict),
        command.on_expiry,
        now_ms,
        command.grace_ms,
        command.retention_ms,
        candidate.sources,
        command.thresholds,
    )


def record_of(command: Reserve, made: Made, shares: tuple[int, ...], entry: int) -> Record:
    state: State = "settled" if command.book else "held"
    booked = made.held if command.book else {}
    expires_ms = made.created_ms + command.ttl_ms
    return Record(command.id, command.fingerprint, state, made, shares, expires_ms, entry, booked)


def fetch(books: Books, command: Fetch, now_ms: int) -> Found | Unknown:
    record = books.reservation(command.id)
    if record is None or record.state == "tombstone" or _is_forgotten(record, now_ms):
        return Unknown(command.id)
    return Found(record)


def _is_forgotten(record: Record, now_ms: int) -> bool:
    """Whether a settled call is remembered only because no step has ended what is overdue since."""
    return record.state == "settled" and now_ms >= record.expires_ms + record.made.retention_ms


def look(books: Books, command: Look, now_ms: int) -> Meters:
    """The meters in the window that is on, in the run that is on; nothing where the period is gone."""
    on = [on_run(books, leg, now_ms) for leg in command.legs]
    states = [MeterState(0, 0, 0) if now_ms >= leg.gone_ms else books.meter(window_on(leg, now_ms)) for leg in on]
    return Meters(tuple(states), now_ms)


def journal(books: Books, command: Journal, now_ms: int) -> Lines:
    return Lines(tuple(books.entries(command)), now_ms)


def refusals(books: Books, command: Refusals, _now_ms: int) -> RefusalCounts:
    return RefusalCounts(tuple(books.refusals(command)))


def alerts(books: Books, command: Alerts, _now_ms: int) -> AlertRows:
    return AlertRows(tuple(books.alerts(command)))


def share(books: Books, command: Share, now_ms: int) -> Shared:
    books.put_note(command.topic, command.writer, command.note, now_ms)
    return Shared(tuple([note for writer, note in books.notes(command.topic) if writer != command.writer]))


_STEPS: Mapping[type, Callable[[Any, Any, int], Outcome]] = {
    Reserve: reserve,
    Check: check,
    Settle: settle,
    Release: release,
    Extend: extend,
    Fetch: fetch,
    Look: look,
    Steer: steer,
    Profile: profile,
    Publish: publish,
    PolicyInForce: policy_in_force,
    Journal: journal,
    Refusals: refusals,
    Alerts: alerts,
    Share: share,
    Verify: verify,
}


_SWEEPING = (Reserve, Check, Settle, Release, Extend, Look)


def carry_out(books: Books, command: Command, now_ms: int) -> Outcome:
    """Carry out one command inside the store's atomic step; those that count end first what is overdue."""
    step = _STEPS[type(command)]
    if not isinstance(command, _SWEEPING):
        return step(books, command, now_ms)
    swept: list[Crossing] = []
    sweep(books, now_ms, swept)
    outcome = step(books, command, now_ms)
    return outcome._replace(crossed=(*swept, *outcome.crossed)) if swept and isinstance(outcome, Telling) else outcome
