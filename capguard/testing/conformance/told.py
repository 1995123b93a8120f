"""An outcome in a few words, as the tables write it: `held small, passing cheaper`, `denied monthly:in_flight`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import singledispatch

from capguard.ledger.outcomes import (
    AlertRows,
    Denied,
    Ended,
    Extended,
    Found,
    Held,
    Line,
    Lines,
    Meters,
    Mismatch,
    Nothing,
    Outcome,
    Published,
    Record,
    RefusalCounts,
    Refused,
    Released,
    Revised,
    Settled,
    Shared,
    Stale,
    Steered,
    Superseded,
    Telling,
    Unknown,
    Verified,
)
from capguard.testing.conformance.builders import seconds


def told(outcome: Outcome) -> str:
    """What the outcome says. Numbers of entries and fingerprints are left to the comparison with the model."""
    crossed = (
        [f"{each.leg.cap}@{_percent(each.ppm)}" for each in outcome.crossed] if isinstance(outcome, Telling) else []
    )
    return ", ".join([_told(outcome), *([f"crossing {' '.join(crossed)}"] if crossed else [])])


@singledispatch
def _told(outcome: object) -> str:
    raise TypeError(f"{outcome!r} is no outcome")


@_told.register
def _held(outcome: Held) -> str:
    words: list[str] = [outcome.record.state]
    if outcome.chosen:
        words.append(str(outcome.record.made.model))
    passing = [f"passing {' '.join(miss.leg.cap for miss in outcome.passed)}"] if outcome.passed else []
    output = [] if outcome.output is None else [f"output {outcome.output}"]
    return ", ".join([" ".join(words), *passing, *output, *_again(outcome.replayed)])


@_told.register
def _denied(outcome: Denied) -> str:
    return " ".join(["denied", *map(_refused, outcome.refused)])


@_told.register
def _stale(outcome: Stale) -> str:
    parts = [f"stale at {_seconds(outcome.now_ms)}"]
    parts += [f"profile {outcome.profile.revision}"] if outcome.profile else []
    parts += [_policy(outcome.policy)] if outcome.policy else []
    return ", ".join(parts)


@_told.register
def _mismatch(outcome: Mismatch) -> str:
    return f"mismatch {outcome.state}"


@_told.register
def _settled(outcome: Settled) -> str:
    said = [word for word in ("late", "conflict") if getattr(outcome, word)] + _again(outcome.replayed)
    return ", ".join([f"settled {_amounts(outcome.record.booked)}", *_overrun(outcome.record), *said])


@_told.register
def _released(outcome: Released) -> str:
    return "released" if outcome.changed else "nothing to release"


@_told.register
def _extended(outcome: Extended) -> str:
    amounts = "+".join(map(str, outcome.record.shares))
    return f"extended to {amounts} until {_seconds(outcome.record.expires_ms)}"


@_told.register
def _ended(outcome: Ended) -> str:
    return f"ended {outcome.record.state}"


@_told.register
def _found(outcome: Found) -> str:
    record = outcome.record
    return ", ".join([f"found {record.state} {_amounts(record.booked)}".rstrip(), *_overrun(record)])


@_told.register
def _unknown(outcome: Unknown) -> str:
    return f"unknown, kept as {outcome.entry}" if outcome.entry else "unknown"


@_told.register
def _meters(outcome: Meters) -> str:
    return " ".join(["meters", *(f"{each.settled}/{each.held}/{each.overrun}" for each in outcome.states)])


@_told.register
def _lines(outcome: Lines) -> str:
    return " ".join(["lines", *map(_line, outcome.lines)])


def _line(line: Line) -> str:
    """`7:settle:r1@70 late`, with the cause where the entry says one."""
    cause = line.body.get("facts", {}).get("cause")
    return f"{line.seq}:{line.kind}:{line.id}@{_seconds(line.at_ms)}" + (f" {cause}" if cause else "")


@_told.register
def _steered(outcome: Steered) -> str:
    """`profile 3, plan pro, over a=5 b=6, grants g1 -g2, spent g1`: g2 is revoked, g1 used up."""
    body = outcome.profile.body
    plan = [f"plan {body['plan']}"] if "plan" in body else []
    over = [f"{each['cap']['id']}={each['cap']['limit']}" for each in body.get("overrides", ())]
    grants = ["-" * ("revoked_ms" in grant) + grant["id"] for grant in body.get("grants", ())]
    told = (["over", *over], ["grants", *grants], ["spent", *body.get("used_up", ())])
    lists = [" ".join(each) for each in told if len(each) > 1]
    return ", ".join([f"profile {outcome.profile.revision}", *plan, *lists, *_again(outcome.replayed)])


@_told.register
def _published(outcome: Published) -> str:
    return ", ".join([_policy(outcome.policy), *_again(outcome.replayed)])


@_told.register
def _superseded(outcome: Superseded) -> str:
    return f"superseded by {outcome.revision}"


@_told.register
def _nothing(_outcome: Nothing) -> str:
    return "nothing"


@_told.register
def _refusals(outcome: RefusalCounts) -> str:
    return " ".join(["refusals", *(f"{row.cap}*{row.times}@{_seconds(row.minute_ms)}" for row in outcome.rows)])


@_told.register
def _alerts(outcome: AlertRows) -> str:
    rows = (f"{row.cap}:{_percent(row.ppm)}@{_seconds(row.at_ms)}" for row in outcome.rows)
    return " ".join(["alerts", *rows])


@_told.register
def _shared(outcome: Shared) -> str:
    return " ".join(["notes", *(str(note["said"]) for note in outcome.notes)])


@_told.register
def _verified(outcome: Verified) -> str:
    counts = f"{outcome.entries} entries, {outcome.meters} meters, {outcome.open} open"
    state = "verified" if outcome.complete and not outcome.differences else "broken"
    return ", ".join([f"{state} {counts}", *([outcome.why] if outcome.why else [])])


def _again(replayed: bool) -> list[str]:
    return ["again"] if replayed else []


def _refused(miss: Refused) -> str:
    """`ten:exhausted`, with the second at which there will be room where that is known."""
    frees = f"@{_seconds(miss.frees_ms)}" if miss.frees_ms else ""
    return f"{miss.leg.cap}:{miss.reason}{frees}"


def _policy(policy: Revised) -> str:
    return f"policy {policy.revision} {policy.body.get('default_plan')}"


def _percent(ppm: int) -> str:
    return f"{ppm / 10_000:g}%"


def _overrun(record: Record) -> Iterator[str]:
    if record.overrun:
        yield f"overrun {_amounts(record.overrun)}"


def _amounts(amounts: Mapping[str, int]) -> str:
    """`5` is 5 parts of a dollar; other units bear their name."""
    return " ".join(str(parts) if unit == "usd" else f"{unit}={parts}" for unit, parts in amounts.items())


def _seconds(at_ms: int) -> str:
    return f"{seconds(at_ms):g}"
