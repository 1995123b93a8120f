"""The enforcement log: what caps did and what was steered, from refusal counts, alerts and journal, in time order."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from capguard import answers
from capguard.ledger import units
from capguard.ledger.caps import Leg
from capguard.ledger.commands import Alerts, Journal, Refusals
from capguard.ledger.outcomes import Alert, AlertRows, Line, Lines, Outcome, RefusalCount, RefusalCounts
from capguard.readable import instant

LogKind = Literal[
    "denied",
    "threshold",
    "warned",
    "downgraded",
    "clamped",
    "dry_run",
    "overrun",
    "late",
    "uncertain",
    "dead_letter",
    "policy",
]

_TOLD: Mapping[str, LogKind] = {
    "warn": "warned",
    "downgrade": "downgraded",
    "clamp": "clamped",
    "dry_run": "dry_run",
}
_CAP = Leg._fields.index("cap")
_STEERING = ("grant", "revoke", "override", "clear_override", "assign", "publish")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One thing that a cap did, that a booking had to say, or that somebody changed (`policy`).

    `denied` lines are counts: how often `cap` refused `scope` in the minute that starts at `at`. `id` is that of the
    call or the grant. `scope` names whom the cap counts.
    """

    at: datetime
    kind: LogKind
    cap: str | None = None
    scope: Mapping[str, str | None] = field(default_factory=dict)
    user: str | None = None
    count: int = 1
    detail: str = ""
    id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: times as ISO 8601."""
        return {
            "at": self.at.isoformat(),
            "kind": self.kind,
            "cap": self.cap,
            "scope": dict(self.scope),
            "user": self.user,
            "count": self.count,
            "detail": self.detail,
            "id": self.id,
        }


class LogReader:
    """Three streams, fetched page by page and told as one. Whoever drives it fetches what is `wanted`, then reads.

    Raises ValueError for naive times.
    """

    def __init__(self, since: datetime | None, until: datetime | None):
        since_ms, until_ms = answers.epoch_ms("since", since), answers.epoch_ms("until", until)
        self._streams = (
            _Stream(Journal(0, None, since_ms, until_ms, answers.PAGE), _of_line),
            _Stream(Refusals(since_ms, until_ms, answers.PAGE), _of_refusals),
            _Stream(Alerts(since_ms, until_ms, answers.PAGE), _of_alert),
        )

    def wanted(self) -> Journal | Refusals | Alerts | None:
        """The page without which nothing more can be told; None at the end."""
        return next((stream.page for stream in self._streams if stream.is_hungry), None)

    def read(self, outcome: Outcome) -> Iterator[LogLine]:
        """Take in the page that was wanted, and tell what is certain to come first."""
        next(stream for stream in self._streams if stream.is_hungry).take(outcome)
        while self.wanted() is None and (told := [stream for stream in self._streams if stream.lines]):
            yield min(told, key=lambda stream: stream.lines[0].at).lines.popleft()


class _Stream:
    """One kind of rows, oldest first: the page to fetch next, and the lines of those that were fetched."""

    def __init__(self, page: Journal | Refusals | Alerts, tell: Callable[[Any], Iterator[LogLine]]):
        self.page: Journal | Refusals | Alerts | None = page
        self.lines: deque[LogLine] = deque()
        self._tell = tell

    @property
    def is_hungry(self) -> bool:
        return self.page is not None and not self.lines

    def take(self, outcome: Outcome) -> None:
        rows = _rows(outcome)
        for row in rows:
            self.lines.extend(self._tell(row))
        full = self.page is not None and len(rows) == self.page.limit
        self.page = self.page._replace(after=_place(rows[-1])) if full and self.page is not None else None


def _rows(outcome: Outcome) -> tuple[Any, ...]:
    match outcome:
        case Lines(lines):
            return lines
        case RefusalCounts(rows) | AlertRows(rows):
            return rows
        case _:
            raise answers.refused(outcome)


def _place(row: Line | RefusalCount | Alert) -> Any:
    return row.seq if isinstance(row, Line) else row.place


def _at(ms: int) -> datetime:
    at = instant(ms)
    assert at is not None
    return at


def _of_refusals(row: RefusalCount) -> Iterator[LogLine]:
    scope = json.loads(row.scope)
    yield LogLine(_at(row.minute_ms), "denied", row.cap, scope, scope.get("user"), row.times)


def _of_alert(row: Alert) -> Iterator[LogLine]:
    scope = json.loads(row.scope)
    detail = f"{row.ppm / 10_000:g}% of the limit"
    yield LogLine(_at(row.at_ms), "threshold", row.cap, scope, scope.get("user"), detail=detail)


def _of_line(line: Line) -> Iterator[LogLine]:
    at, body = _at(line.at_ms), line.body
    if body.get("copied"):  # the first shard has told it
        return
    if line.kind in _STEERING:
        cap = body.get("change", {}).get("cap")
        named = cap["id"] if isinstance(cap, Mapping) else cap
        yield LogLine(at, "policy", named, user=line.user, detail=_steered(line.kind, body), id=line.id or None)
        return
    if line.kind == "dead_letter":
        usd = units.shown("usd", body["amounts"].get("usd", 0))
        detail = f"settled when its id was forgotten: {usd:f} usd not booked"
        yield LogLine(at, "dead_letter", detail=detail, id=line.id)
        return
    yield from _of_caps(line, at)
    for kind, detail in _of_booking(body):
        yield LogLine(at, kind, user=line.user, detail=detail, id=line.id)


def _of_caps(line: Line, at: datetime) -> Iterator[LogLine]:
    """The caps that did not stop a call but said something of it: they stand in the facts of its first entry."""
    body = line.body
    facts = body.get("facts", {})
    if facts.keys().isdisjoint(_TOLD):
        return
    held = {leg[_CAP]: (Leg._make(leg), share) for leg, share in zip(body["legs"], body["shares"], strict=False)}
    for action, kind in _TOLD.items():
        for cap in dict.fromkeys(facts.get(action, ())):
            leg, share = held.get(cap, (None, 0))  # a cap that led to another model may not count that one
            scope = {} if leg is None else json.loads(leg.scope)
            yield LogLine(at, kind, cap, scope, line.user, detail=_told(kind, body, leg, share), id=line.id)


def _told(kind: LogKind, body: Mapping[str, Any], leg: Leg | None, share: int) -> str:
    model, facts = body.get("model") or "", body["facts"]
    if kind == "downgraded":
        return f"{facts['asked']} to {model}" if "asked" in facts else model
    if kind == "clamped":
        return f"{model}: output limited to {facts.get('output')}"
    if leg is None:
        return model
    needs = f"needs {units.shown(leg.unit, share):f} of {units.shown(leg.unit, leg.limit):f} {leg.unit}"
    return f"{model}: {needs}" if model else needs


def _of_booking(body: Mapping[str, Any]) -> Iterator[tuple[LogKind, str]]:
    facts = body.get("facts", {})
    cause = facts.get("cause", "no cause given")
    for unit, parts in body.get("overrun", {}).items():
        yield "overrun", f"{units.shown(unit, parts):f} {unit} beyond the limit: {cause.replace('_', ' ')}"
    if facts.get("late"):
        yield "late", "booked after its hold had ended"
    if "uncertain" in facts.get("flags", ()):
        yield "uncertain", "expired, booked as expected" if cause == "expired" else "booked as expected"


def _steered(kind: str, body: Mapping[str, Any]) -> str:
    """What was changed, to what, by whom and why."""
    change: Mapping[str, Any] = body.get("change", {})
    until = change.get("until_ms")
    ending = "" if until is None else f" until {_at(until):%Y-%m-%d %H:%M} UTC"
    by = f", by {body['by']}" if body.get("by") else ""
    why = f": {body['why']}" if body.get("why") else ""
    return f"{_CHANGES[kind](change)}{ending} (revision {body.get('revision')}{by}){why}"


def _grant(change: Mapping[str, Any]) -> str:
    unit = change["unit"]
    return f"grant {change['id']}: {units.shown(unit, change['amount']):f} {unit}"


def _override(change: Mapping[str, Any]) -> str:
    return "override: " + ", ".join(f"{name} {value}" for name, value in change["cap"].items() if name != "id")


_CHANGES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "grant": _grant,
    "revoke": lambda change: f"grant {change['id']} revoked",
    "override": _override,
    "clear_override": lambda change: "override cleared" if change.get("cap") else "all overrides cleared",
    "assign": lambda change: f"plan {change['plan']}" if change["plan"] else "no plan of its own",
    "publish": lambda _: "policy published",
}
