"""The books in SQLite: one statement per question, every name of a person bound as a value, never part of the SQL."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from capguard.ledger.caps import Leg, MeterState, Move
from capguard.ledger.commands import Journal
from capguard.ledger.outcomes import Line, Record

_METER = "SELECT sum(settled), sum(held), sum(overrun) FROM meter WHERE key = ? AND period BETWEEN ? AND ?"
_OPEN = """
INSERT INTO meter (key, period, settled, held, overrun, cap, unit, scope, ends) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key, period) DO UPDATE SET
  settled = settled + excluded.settled, held = held + excluded.held, overrun = overrun + excluded.overrun
"""
_MOVE = """
UPDATE meter SET settled = settled + ?, held = held + ?, overrun = overrun + ? WHERE key = ? AND period = ?
"""
_RECORD = """
SELECT r.id, r.fingerprint, r.state, r.expires, r.change, r.entry, e.body
FROM reservation r LEFT JOIN entry e ON e.seq = r.entry
"""
_BY_ID = _RECORD + "WHERE r.id = ?"
_DUE = _RECORD + "WHERE r.due <= ? ORDER BY r.due LIMIT ?"
_HELD = _RECORD + "WHERE r.state = 'held'"
_ADD = "INSERT INTO reservation (id, fingerprint, state, entry, expires, due, change) VALUES (?, ?, ?, ?, ?, ?, '{}')"
_UPDATE = "UPDATE reservation SET state = ?, expires = ?, due = ?, change = ? WHERE id = ?"
_APPEND = "INSERT INTO entry (at, kind, id, user, body) VALUES (?, ?, ?, ?, ?)"
_ENTRIES = """
SELECT seq, at, kind, id, user, body FROM entry
WHERE seq > :after AND (:since IS NULL OR at >= :since) AND (:until IS NULL OR at < :until)
"""
_BY_USER = " AND user = :user"
_IN_ORDER = " ORDER BY seq LIMIT :limit"
_DENY = """
INSERT INTO denial (key, minute, count, cap, scope) VALUES (?, ?, 1, ?, ?)
ON CONFLICT (key, minute) DO UPDATE SET count = count + 1
"""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class SQLiteBooks:
    """The books of one connection, inside one transaction that its backend began."""

    def __init__(self, connection: sqlite3.Connection):
        self._connection = connection
        self._run = connection.execute

    def last_ms(self) -> int:
        """When the newest entry was made: time in the books never runs backward."""
        row = self._run("SELECT at FROM entry ORDER BY seq DESC LIMIT 1").fetchone()
        return 0 if row is None else int(row[0])

    def meter(self, leg: Leg) -> MeterState:
        row = self._run(_METER, (leg.meter, leg.since, leg.period)).fetchone()
        return MeterState(0, 0, 0) if row[0] is None else MeterState(*row)

    def open(self, leg: Leg, settled: int, held: int, overrun: int) -> None:
        words = leg.cap, leg.unit, leg.scope, leg.ends
        self._run(_OPEN, (leg.meter, leg.period, settled, held, overrun, *words))

    def move(self, moves: Sequence[Move]) -> None:
        for move in moves:
            self._run(_MOVE, (move.settled, move.held, move.overrun, move.meter, move.period))

    def reservation(self, id: str) -> Record | None:
        row = self._run(_BY_ID, (id,)).fetchone()
        return None if row is None else _record(*row)

    def add(self, record: Record, due_ms: int) -> None:
        entry = record.entry or None
        self._run(_ADD, (record.id, record.fingerprint, record.state, entry, record.expires_ms, due_ms))

    def update(self, record: Record, due_ms: int) -> None:
        change: dict[str, Any] = {"amounts": record.amounts}
        if record.state != "held":
            change |= {"booked": record.booked, "overrun": record.overrun, "entry": record.entry}
        self._run(_UPDATE, (record.state, record.expires_ms, due_ms, _encode(change), record.id))

    def due(self, now_ms: int, limit: int) -> Iterable[Record]:
        return [_record(*row) for row in self._run(_DUE, (now_ms, limit))]

    def forget(self, id: str) -> None:
        self._run("DELETE FROM reservation WHERE id = ?", (id,))

    def append(self, at_ms: int, kind: str, id: str, user: str | None, body: Mapping[str, Any]) -> int:
        seq = self._run(_APPEND, (at_ms, kind, id, user, _encode(body))).lastrowid
        assert seq is not None
        return seq

    def entries(self, page: Journal) -> Iterable[Line]:
        query = _ENTRIES + (_IN_ORDER if page.user is None else _BY_USER + _IN_ORDER)
        values = {"after": page.after, "since": page.since_ms, "until": page.until_ms, "limit": page.limit}
        rows = self._run(query, values if page.user is None else values | {"user": page.user})
        return [Line(seq, at, kind, id, user, json.loads(body)) for seq, at, kind, id, user, body in rows]

    def meters(self) -> Iterator[Move]:
        rows = self._run("SELECT key, period, settled, held, overrun FROM meter")
        return (Move(*row) for row in rows)

    def open_reservations(self) -> Iterator[Record]:
        return (_record(*row) for row in self._run(_HELD))

    def deny(self, leg: Leg, minute_ms: int) -> None:
        self._run(_DENY, (leg.meter, minute_ms, leg.cap, leg.scope))


_NEVER_MADE: Mapping[str, Any] = {
    "model": None, "legs": [], "held": {}, "expected": {}, "identity": {}, "rates": {}, "facts": {},
    "on_expiry": "release", "created_ms": 0, "grace_ms": 0, "retention_ms": 0,
}  # fmt: skip
"""What stands in for the entry of a tombstone, which has none."""


def _record(
    id: str, fingerprint: str, state: Any, expires: int, change: str, entry: int | None, body: str | None
) -> Record:
    """A reservation from its row and the entry that made it."""
    made = _NEVER_MADE if body is None else json.loads(body)
    legs = tuple([Leg(*leg) for leg in made["legs"]])
    now = json.loads(change)
    booked_at_once = made["held"] if state == "settled" else {}
    return Record(
        id=id,
        fingerprint=fingerprint,
        state=state,
        model=made["model"],
        legs=legs,
        amounts=tuple(now["amounts"]) if now else tuple([leg.amount for leg in legs]),
        held=made["held"],
        expected=made["expected"],
        identity=made["identity"],
        rates=made["rates"],
        facts=made["facts"],
        on_expiry=made["on_expiry"],
        created_ms=made["created_ms"],
        expires_ms=expires,
        grace_ms=made["grace_ms"],
        retention_ms=made["retention_ms"],
        booked=now.get("booked", booked_at_once),
        overrun=now.get("overrun", {}),
        entry=now.get("entry", entry or 0),
    )
