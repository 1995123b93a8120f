"""An outcome in a few words, as the tables write it: `held small, passing cheaper`, `denied monthly:in_flight`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import singledispatch

from capguard.ledger.outcomes import (
    Denied,
    Ended,
    Extended,
    Found,
    Held,
    Lines,
    Meters,
    Mismatch,
    Outcome,
    Record,
    Released,
    Settled,
    Stale,
    Unknown,
    Verified,
)
from capguard.testing.conformance.builders import START_MS


def told(outcome: Outcome) -> str:
    """What the outcome says. Numbers of entries and fingerprints are left to the comparison with the model."""
    return _told(outcome)


@singledispatch
def _told(outcome: object) -> str:
    raise TypeError(f"{outcome!r} is no outcome")


@_told.register
def _held(outcome: Held) -> str:
    words: list[str] = [outcome.record.state]
    if outcome.chosen:
        words.append(str(outcome.record.made.model))
    passing = [f"passing {' '.join(miss.leg.cap for miss in outcome.passed)}"] if outcome.passed else []
    again = ["again"] if outcome.replayed else []
    return ", ".join([" ".join(words), *passing, *again])


@_told.register
def _denied(outcome: Denied) -> str:
    return " ".join(["denied", *(f"{miss.leg.cap}:{miss.reason}" for miss in outcome.refused)])


@_told.register
def _stale(outcome: Stale) -> str:
    return f"stale at {_seconds(outcome.now_ms)}"


@_told.register
def _mismatch(outcome: Mismatch) -> str:
    return f"mismatch {outcome.state}"


@_told.register
def _settled(outcome: Settled) -> str:
    said = [word for word in ("late", "conflict") if getattr(outcome, word)] + ["again"] * outcome.replayed
    return ", ".join([f"settled {_amounts(outcome.record.booked)}", *_overrun(outcome.record), *said])


@_told.register
def _released(outcome: Released) -> str:
    return "released" if outcome.changed else "nothing to release"


@_told.register
def _extended(outcome: Extended) -> str:
    amounts = "+".join(map(str, outcome.record.amounts))
    return f"extended to {amounts} until {_seconds(outcome.record.expires_ms)}"


@_told.register
def _ended(outcome: Ended) -> str:
    return f"ended {outcome.record.state}"


@_told.register
def _found(outcome: Found) -> str:
    record = outcome.record
    return ", ".join([f"found {record.state} {_amounts(record.booked)}".rstrip(), *_overrun(record)])


@_told.register
def _unknown(_outcome: Unknown) -> str:
    return "unknown"


@_told.register
def _meters(outcome: Meters) -> str:
    return " ".join(["meters", *(f"{each.settled}/{each.held}/{each.overrun}" for each in outcome.states)])


@_told.register
def _lines(outcome: Lines) -> str:
    return " ".join(["lines", *(f"{line.seq}:{line.kind}:{line.id}@{_seconds(line.at_ms)}" for line in outcome.lines)])


@_told.register
def _verified(outcome: Verified) -> str:
    counts = f"{outcome.entries} entries, {outcome.meters} meters, {outcome.open} open"
    state = "verified" if outcome.complete and not outcome.differences else "broken"
    return ", ".join([f"{state} {counts}", *([outcome.why] if outcome.why else [])])


def _overrun(record: Record) -> Iterator[str]:
    if record.overrun:
        yield f"overrun {_amounts(record.overrun)}"


def _amounts(amounts: Mapping[str, int]) -> str:
    """`5` is 5 parts of a dollar; other units bear their name."""
    return " ".join(str(parts) if unit == "usd" else f"{unit}={parts}" for unit, parts in amounts.items())


def _seconds(at_ms: int) -> str:
    return f"{(at_ms - START_MS) / 1000:g}"
