"""From commands to the arguments of scripts, and from what is stored to lines and records of the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from capguard.backends.redis.packing import Kept, Meters, encode, meters_of, pack_amounts, pack_numbers
from capguard.errors import BackendUnavailable
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

FINGERPRINT = 16
"""Characters of a fingerprint that are remembered of an ended call: 64 bits."""

_STATES: Mapping[str, State] = {"h": "held", "e": "expired", "r": "released", "s": "settled", "t": "tombstone"}


def text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def reserve_args(command: Reserve, row: str, *, check: bool) -> tuple[list[Any], list[str]]:
    """The arguments of reserve.lua from the id on, and the meters of all candidates in their order."""
    rows: list[str] = []
    candidates: list[Any] = []
    plain = not (command.book or check)
    for candidate in command.candidates:
        meters = meters_of(candidate.legs, candidate.sources, tuple(candidate.held))
        plain = plain and (meters.plain or bool(candidates))
        rows += meters.keys
        amounts = pack_amounts(meters.units, candidate.held)
        dollars = meters.units.index("usd") + 1 if "usd" in meters.units else 0
        counts = pack_numbers(len(candidate.legs), dollars)
        text = _body(command, candidate, meters)
        candidates += [meters.packed, meters.unit_of, counts, amounts, text, _scale(candidate)]
    numbers = pack_numbers(
        command.valid_from,
        command.valid_until,
        command.ttl_ms,
        command.grace_ms,
        command.retention_ms,
        command.profile,
        -1 if command.policy is None else command.policy,
        command.book,
        command.waits,
        check,
        plain,
    )
    fingerprint = command.fingerprint[:FINGERPRINT] if command.book else command.fingerprint
    user, facts = command.identity.get("user", ""), encode(command.facts)[:-1]
    return [command.id, row, numbers, fingerprint, user, facts, pack_numbers(*command.thresholds), *candidates], rows


def _scale(candidate: Candidate) -> str:
    scale = candidate.scale
    if scale is None:
        return ""
    units = list(candidate.held)
    base, rates = [scale.base[unit] for unit in units], [scale.rates[unit] for unit in units]
    return encode({"output": scale.output, "units": units, "base": base, "rates": rates})


_text_of_rates = Kept(encode)


def _body(command: Reserve, candidate: Candidate, meters: Meters) -> str:
    """What the entry will say, as far as it is known before the decision: JSON without its last brace."""
    told = encode(
        {
            "model": candidate.model,
            "held": candidate.held,
            "expected": candidate.expected,
            "identity": command.identity,
            "on_expiry": command.on_expiry,
            "grace_ms": command.grace_ms,
            "retention_ms": command.retention_ms,
            "ttl_ms": command.ttl_ms,
            "thresholds": command.thresholds,
        }
    )
    rates = _text_of_rates(candidate.rates)
    return f'{told[:-1]},"legs":{meters.legs},"sources":{meters.sources},"rates":{rates}'


class Known(NamedTuple):
    """What a process knows of a reservation: the number of the entry that made it, and what it says."""

    entry: int
    made: Made


def record_args(id: str, row: str, known: Known | None) -> tuple[list[Any], Meters]:
    """A reservation as lua/ending.lua reads it, and its meters: none where it is not known."""
    if known is None:
        return [id, row, "", "", "", "", "", ""], _NO_METERS
    made = known.made
    meters = meters_of(made.legs, made.sources, tuple(made.held))
    numbers = pack_numbers(len(made.legs), made.retention_ms, made.grace_ms, made.created_ms, *made.thresholds)
    user = made.identity.get("user", "")
    return [id, row, known.entry, user, meters.packed, meters.unit_of, numbers, meters.names], meters


_NO_METERS = meters_of((), (), ())


def units_of(made: Made) -> tuple[str, ...]:
    """The units of a call, in the order in which its scripts number them."""
    return meters_of(made.legs, made.sources, tuple(made.held)).units


def expiry_args(known: Known | None, units: Sequence[str]) -> list[Any]:
    """What the end of a hold that nobody settled books, and says."""
    if known is None:
        return ["", "", ""]
    made = known.made
    amounts = made.expected if made.on_expiry == "charge_expected" else {}
    facts = {"flags": ["uncertain"], "cause": "expired"} if amounts else {"cause": "expired"}
    return [pack_amounts(units, amounts), encode(amounts), encode(facts)]


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


class OpenText(NamedTuple):
    """A reservation that may still change, as the hash of the open ones has it."""

    state: State
    made: int
    entry: int
    expires_ms: int
    fingerprint: str
    shares: tuple[int, ...]


def read_open(value: bytes) -> OpenText:
    """Raises BackendUnavailable where it is none of ours."""
    try:
        state, made, entry, expires, *fingerprint, shares = text(value).split(":")
        numbers = tuple([int(share) for share in shares.split(",") if share])
        return OpenText(_STATES[state], int(made), int(entry), int(expires), ":".join(fingerprint), numbers)
    except (ValueError, KeyError) as error:
        raise _unreadable(value) from error


def _unreadable(value: bytes) -> BackendUnavailable:
    return BackendUnavailable(
        f"the store holds {value!r:.80}, which is nothing of ours: something else has written there"
    )


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


def amounts_of(units: Sequence[str], pairs: Sequence[int]) -> dict[str, int]:
    """Numbers of units, each with its amount, by their names."""
    return {units[unit - 1]: amount for unit, amount in zip(pairs[::2], pairs[1::2], strict=True)}


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
    """The meters among the rows of a bucket that are not gone. Raises BackendUnavailable where one is none of ours."""
    found: list[Move] = []
    for row, value in zip(fields[::2], fields[1::2], strict=True):
        try:
            if len(row) == 30:
                settled, held, overrun, gone = text(value).split(":")
                sums = [int(each or 0) for each in (settled, held, overrun)]
                if now_ms < _gone(gone):
                    found.append(Move(text(row[:24]), int.from_bytes(row[24:]), *sums))
            elif len(row) == 24:
                found += _window(text(row), text(value), now_ms)
        except ValueError as error:
            raise _unreadable(value) from error
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
