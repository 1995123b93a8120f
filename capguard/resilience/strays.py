"""What another life of a ledger has booked, told to the one that was made anew: every call once, under its id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from capguard.ledger.caps import Amounts
from capguard.ledger.commands import Settle, Steer
from capguard.ledger.entries import read_body
from capguard.ledger.flows import Flow
from capguard.ledger.outcomes import Line, Outcome, Record
from capguard.resilience.letters import Letter, call_of
from capguard.resilience.rebooking import delivering

_STEERING = ("grant", "revoke", "override", "clear_override", "assign")


def retold(strays: Iterable[Line]) -> Iterator[Flow[Outcome]]:
    """A conversation for each change of a profile, and for each call that was booked there, as it was booked last.

    Calls that were in flight there are booked by their processes; policies that were published there are not taken.
    """
    made: dict[str, Record] = {}
    booked: dict[str, tuple[Amounts, Mapping[str, Any]]] = {}
    for line in strays:
        if line.kind in ("reserve", "book"):
            made[line.id] = _record(line)
        if line.kind == "book":
            booked[line.id] = line.body["held"], {}
        elif line.kind in ("settle", "expire") and line.id in made:
            booked[line.id] = line.body["amounts"], line.body["facts"]
        elif line.kind == "release":
            booked.pop(line.id, None)
        elif line.kind in _STEERING and line.user is not None:
            yield _steered(line, line.user)
    for id, (amounts, facts) in booked.items():
        settle = Settle(id, amounts, {**facts, "cause": "lost"}, made[id].made.retention_ms)
        yield delivering(Letter(settle, call_of(made[id])), made[id].made.created_ms)


def _steered(line: Line, user: str) -> Flow[Outcome]:
    return (yield Steer(line.kind, user, line.body["change"], line.body["by"], line.body["why"]))


def _record(line: Line) -> Record:
    made, shares = read_body(line.body)
    return Record(line.id, "", "held", made, shares, made.created_ms, line.seq)
