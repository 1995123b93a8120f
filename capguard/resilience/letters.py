"""What is kept for a backend that is away: one admission, settle or release, as a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from capguard.ledger.caps import Leg
from capguard.ledger.commands import Candidate, Release, Reserve, Settle
from capguard.ledger.outcomes import Record
from capguard.ledger.windows import FOREVER_MS

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False).encode


class Letter(NamedTuple):
    """One thing to tell the backend. A Reserve is a call that was let through while it was away.

    A settle brings along the call that it books, as far as that is known: should the backend not remember it, it is
    booked all the same.
    """

    command: Reserve | Settle | Release
    call: Reserve | None = None

    @property
    def id(self) -> str:
        return self.command.id


def written(letter: Letter) -> str:
    """The letter as JSON."""
    fields: dict[str, Any] = {"do": type(letter.command).__name__, **letter.command._asdict()}
    if letter.call is not None:
        fields["call"] = letter.call._asdict()
    return _encode(fields)


def read(text: str | bytes) -> Letter:
    """The letter of `written`. Raises ValueError for anything else."""
    try:
        fields = json.loads(text)
        kind, call = fields.pop("do"), fields.pop("call", None)
        command = _reserve(fields) if kind == "Reserve" else {"Settle": Settle, "Release": Release}[kind](**fields)
        return Letter(command, None if call is None else _reserve(call))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"no letter of this capguard: {error!r}") from error


def _reserve(fields: Mapping[str, Any]) -> Reserve:
    found = Reserve(**fields)
    candidates = tuple([_candidate(*each) for each in found.candidates])
    return found._replace(candidates=candidates, thresholds=tuple(found.thresholds), offline=None)


def _candidate(model: str | None, held: Any, expected: Any, legs: Any, rates: Any, sources: Any, _: Any) -> Candidate:
    return Candidate(model, held, expected, _legs(legs), rates, _legs(sources))


def _legs(rows: list[list[Any]]) -> tuple[Leg, ...]:
    return tuple([Leg(*row) for row in rows])


def call_of(record: Record) -> Reserve:
    """A reservation as a command, so that it can be booked where the backend has lost it."""
    made = record.made
    return Reserve(
        id=record.id,
        fingerprint=record.fingerprint,
        candidates=(Candidate(made.model, made.held, made.expected, made.legs, made.rates, made.sources),),
        identity=made.identity,
        valid_from=0,
        valid_until=FOREVER_MS,
        ttl_ms=max(1, record.expires_ms - made.created_ms),
        grace_ms=made.grace_ms,
        retention_ms=made.retention_ms,
        on_expiry="release" if made.on_expiry == "release" else "charge_expected",
        facts={**made.facts, "cause": "lost", "made_ms": made.created_ms},
        thresholds=made.thresholds,
    )
