"""From commands to the arguments of scripts, and from what is stored to lines and records of the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from capguard.ledger.caps import Amounts, Leg, MeterState, Move
from capguard.ledger.commands import Candidate, Reserve
from capguard.ledger.outcomes import (
    NEVER,
    Alert,
    Crossing,
    Line,
    Made,
    Record,
    RefusalCount,
    Refused,
    Revised,
    State,
)
from capguard.ledger.windows import FOREVER_MS

Reply = Sequence[Any]

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode

FINGERPRINT = 16
"""Characters of a fingerprint that are remembered of an ended call: 64 bits."""

_STATES: Mapping[str, State] = {"h": "held", "e": "expired", "r": "released", "s": "settled", "t": "tombstone"}


def text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def reserve_args(command: Reserve, row: str, *, check: bool) -> list[str]:
    """The arguments of reserve.lua from the id on."""
    head = {
        "fingerprint": command.fingerprint[:FINGERPRINT] if command.book else command.fingerprint,
        "valid_from": command.valid_from,
        "valid_until": command.valid_until,
        "ttl": command.ttl_ms,
        "grace": command.grace_ms,
        "retention": command.retention_ms,
        "user": command.identity.get("user", ""),
        "profile": command.profile,
        "policy": -1 if command.policy is None else command.policy,
        "book": command.book,
        "waits": command.waits,
        "check": check,
    }
    args = [command.id, row, encode(head), encode(command.facts)[:-1]]
    for candidate in command.candidates:
        args += [encode(_body(command, candidate))[:-1], encode(candidate.scale._asdict()) if candidate.scale else ""]
    return args


def _body(command: Reserve, candidate: Candidate) -> dict[str, Any]:
    """What the entry will say, as far as it is known before the decision."""
    return {
        "model": candidate.model,
        "legs": candidate.legs,
        "held": candidate.held,
        "expected": candidate.expected,
        "identity": command.identity,
        "rates": candidate.rates,
        "on_expiry": command.on_expiry,
        "grace_ms": command.grace_ms,
        "retention_ms": command.retention_ms,
        "sources": candidate.sources,
        "thresholds": command.thresholds,
    }


def read_body(body: bytes | str) -> dict[str, Any]:
    """The body of an entry, with the runs of idle meters put into its legs."""
    fields: dict[str, Any] = json.loads(body)
    for number, (period, ends) in fields.pop("runs", {}).items():
        leg = Leg(*fields["legs"][int(number) - 1])
        fields["legs"][int(number) - 1] = leg._replace(period=period, since=period, ends=ends)
    return fields


def read_line(entry: Sequence[Any]) -> Line:
    """An entry of the stream."""
    seq, fields = entry
    values = {text(name): value for name, value in zip(fields[::2], fields[1::2], strict=True)}
    user = text(values["u"]) or None
    body = read_body(values["b"])
    return Line(int(seq.split(b"-")[0]), int(values["t"]), text(values["k"]), text(values["i"]), user, body)


def made_of(body: Mapping[str, Any]) -> tuple[Made, tuple[int, ...]]:
    """What never changes of a reservation, and what it held at first, out of the body of its entry."""
    fields = dict(body)
    shares = tuple(fields.pop("shares"))
    fields["legs"] = tuple([Leg(*leg) for leg in fields["legs"]])
    fields["sources"] = tuple([Leg(*leg) for leg in fields["sources"]])
    fields["thresholds"] = tuple(fields["thresholds"])
    return Made(**fields), shares


class OpenText(NamedTuple):
    """A reservation that may still change, as the hash of the open ones has it."""

    state: State
    made: int
    entry: int
    expires_ms: int
    fingerprint: str
    shares: tuple[int, ...]


def read_open(value: bytes) -> OpenText:
    state, made, entry, expires, *fingerprint, shares = text(value).split(":")
    numbers = tuple([int(share) for share in shares.split(",") if share])
    return OpenText(_STATES[state], int(made), int(entry), int(expires), ":".join(fingerprint), numbers)


class RowText(NamedTuple):
    """A reservation that changes no more, as its bucket has it."""

    state: State
    made: int
    entry: int
    usd: int
    fingerprint: str


def read_row(value: bytes) -> RowText:
    state, _forgotten, made, entry, usd, fingerprint = text(value).split(":", 5)
    return RowText(_STATES[state], int(made, 16), int(entry, 16), int(usd), fingerprint)


def open_record(id: str, found: OpenText, made: Made, ending: Mapping[str, Any] | None) -> Record:
    """An open reservation; `ending` is the body of the entry that ended it."""
    booked: Amounts = ending["amounts"] if ending else {}
    overrun: Amounts = ending["overrun"] if ending else {}
    return Record(
        id, found.fingerprint, found.state, made, found.shares, found.expires_ms, found.entry, booked, overrun
    )


def crossings(found: Sequence[Sequence[int]], made: Made) -> tuple[Crossing, ...]:
    meters = made.meters
    return tuple([Crossing(meters[number - 1], ppm, settled, made.identity) for number, ppm, settled in found])


def misses(found: Sequence[Sequence[int]], candidates: Sequence[Candidate]) -> tuple[Refused, ...]:
    return tuple(
        [
            Refused(candidates[of].legs[number - 1], amount, MeterState(settled, held, overrun), frees)
            for of, number, amount, settled, held, overrun, frees in found
        ]
    )


def on_runs(candidates: tuple[Candidate, ...], runs: Sequence[Sequence[int]]) -> tuple[Candidate, ...]:
    """The candidates with the runs of their idle meters as the server found them."""
    if not runs:
        return candidates
    legs = [list(candidate.legs) for candidate in candidates]
    for of, number, period, ends in runs:
        legs[of][number - 1] = legs[of][number - 1]._replace(period=period, since=period, ends=ends)
    return tuple([each._replace(legs=tuple(own)) for each, own in zip(candidates, legs, strict=True)])


def amounts_of(pairs: Sequence[Any]) -> dict[str, int]:
    return {text(unit): amount for unit, amount in zip(pairs[::2], pairs[1::2], strict=True)}


def read_profile(value: bytes) -> Revised:
    """`revision:profile`"""
    revision, _, body = value.partition(b":")
    return Revised(int(revision), json.loads(body)) if int(revision) else NEVER


def read_policy(value: bytes) -> Revised:
    return Revised(**json.loads(value)) if value else NEVER


def read_refusal(member: bytes, score: bytes) -> RefusalCount:
    minute_ms, meter, cap, scope = _named(member, 2)
    return RefusalCount(int(minute_ms), meter, cap, scope, int(float(score)) % 2**24)


def read_alert(member: bytes, score: bytes) -> Alert:
    meter, period, ppm, cap, scope = _named(member, 3)
    return Alert(int(float(score)), meter, int(period), int(ppm), cap, scope)


def _named(member: bytes, count: int) -> list[str]:
    """The parts before the length of a cap's id, then that id, then the scope."""
    *parts, rest = member.split(b":", count + 1)
    length = int(parts.pop())
    return [*map(text, parts), text(rest[:length]), text(rest[length:])]


def read_meters(fields: Sequence[bytes], now_ms: int) -> list[Move]:
    """The meters among the rows of a bucket that are not gone."""
    found: list[Move] = []
    for row, value in zip(fields[::2], fields[1::2], strict=True):
        meter = text(row[:24])
        if len(row) == 30:
            settled, held, overrun, gone = text(value).split(":")
            if now_ms < _gone(gone):
                found.append(
                    Move(meter, int.from_bytes(row[24:]), *(int(each or 0) for each in (settled, held, overrun)))
                )
        elif len(row) == 24:
            found += _window(meter, text(value), now_ms)
    return found


def _gone(number: str) -> int:
    """Whole minutes, or milliseconds, or never."""
    if not number:
        return FOREVER_MS
    return int(number) * 60_000 if int(number) < 1e10 else int(number)


def _window(meter: str, value: str, now_ms: int) -> list[Move]:
    gone, _, rows = value.partition("|")
    buckets = [tuple(map(int, row.split(","))) for row in rows.split(";") if row]
    span = int(gone) - max(period for period, *_ in buckets)
    return [Move(meter, period, *sums) for period, *sums in buckets if now_ms < period + span]
