"""The books in SQLite: one statement per question, every name of a person bound as a value, never part of the SQL."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from capguard.ledger.caps import Leg, MeterState, Move
from capguard.ledger.commands import NOTES, NOTES_KEPT_MS, Alerts, Journal, Refusals
from capguard.ledger.decide import MINUTE_MS
from capguard.ledger.entries import read_body
from capguard.ledger.outcomes import NEVER, Alert, Line, Made, Record, RefusalCount, Revised

_BEGIN = """
SELECT (SELECT at FROM entry ORDER BY seq DESC LIMIT 1),
       (SELECT min(due) FROM reservation), (SELECT min(gone) FROM meter)
"""
_PERIOD = "SELECT settled, held, overrun FROM meter WHERE key = ? AND period = ?"
_METER = "SELECT sum(settled), sum(held), sum(overrun) FROM meter WHERE key = ? AND period BETWEEN ? AND ?"
_PERIODS = "SELECT period, settled FROM meter WHERE key = ? AND period BETWEEN ? AND ? ORDER BY period"
_HOLD = """
INSERT INTO meter (key, period, settled, held, overrun, cap, unit, scope, gone) VALUES (?, ?, 0, ?, 0, ?, ?, ?, ?)
ON CONFLICT (key, period) DO UPDATE SET held = held + excluded.held
"""
_BOOK = """
INSERT INTO meter (key, period, settled, held, overrun, cap, unit, scope, gone) VALUES (?, ?, ?, 0, 0, ?, ?, ?, ?)
ON CONFLICT (key, period) DO UPDATE SET settled = settled + excluded.settled RETURNING settled
"""
_MOVE = """
UPDATE meter SET settled = settled + ?, held = held + ?, overrun = overrun + ? WHERE key = ? AND period = ?
RETURNING settled
"""
_NEWEST = "SELECT period, gone FROM meter WHERE key = ? ORDER BY period DESC LIMIT 1"
_KEEP = "UPDATE meter SET gone = max(gone, ?) WHERE key = ? AND period = ?"
_CLOSE = "DELETE FROM meter WHERE (key, period) IN (SELECT key, period FROM meter WHERE gone <= ? LIMIT ?)"
_ALERT = "INSERT OR IGNORE INTO alert (key, period, ppm, at, cap, scope) VALUES (?, ?, ?, ?, ?, ?)"
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
_DENIALS = """
SELECT minute, key, cap, scope, count FROM denial
WHERE (minute, key) > (:minute, :key) AND (:since IS NULL OR minute > :since) AND (:until IS NULL OR minute < :until)
ORDER BY minute, key LIMIT :limit
"""
_ALERTS = """
SELECT at, key, period, ppm, cap, scope FROM alert
WHERE (at, key, period, ppm) > (:at, :key, :period, :ppm)
  AND (:since IS NULL OR at >= :since) AND (:until IS NULL OR at < :until)
ORDER BY at, key, period, ppm LIMIT :limit
"""

_NOTE = """
INSERT INTO note (topic, writer, at, body) VALUES (?, ?, ?, ?)
ON CONFLICT (topic, writer) DO UPDATE SET at = excluded.at, body = excluded.body
"""
_NOTES = "SELECT writer, body FROM note WHERE topic = ? ORDER BY at DESC, writer"
_OLD_NOTES = """
DELETE FROM note WHERE topic = :topic AND (at <= :since OR writer NOT IN
  (SELECT writer FROM note WHERE topic = :topic ORDER BY at DESC, writer LIMIT :most))
"""
_PROFILE = "SELECT revision, body FROM profile WHERE user = ?"
_PUT_PROFILE = """
INSERT INTO profile (user, revision, body) VALUES (?, ?, ?)
ON CONFLICT (user) DO UPDATE SET revision = excluded.revision, body = excluded.body
"""
_POLICY = """
SELECT revision, document, at, by, why, since FROM policy WHERE ? IS NULL OR revision = ? ORDER BY revision DESC LIMIT 1
"""
_ADD_POLICY = "INSERT INTO policy (revision, document, at, by, why, since) VALUES (?, ?, ?, ?, ?, ?)"

_EMPTY = MeterState(0, 0, 0)

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class SQLiteBooks:
    """The books of one connection, inside one transaction that its backend began."""

    def __init__(self, connection: sqlite3.Connection):
        self._connection = connection
        self._run = connection.execute
        self._next_due: int | None = None
        self._next_gone: int | None = None

    def begin(self, now_ms: int) -> int:
        """Look at the clock of the books: time there never runs backward. Returns the time of this step."""
        last_ms, self._next_due, self._next_gone = self._run(_BEGIN).fetchone()
        return now_ms if last_ms is None else max(now_ms, last_ms)

    def meter(self, leg: Leg) -> MeterState:
        if not leg.rolling:
            row = self._run(_PERIOD, (leg.meter, leg.period)).fetchone()
            return _EMPTY if row is None else MeterState._make(row)
        row = self._run(_METER, (leg.meter, leg.since, leg.period)).fetchone()
        return _EMPTY if row[0] is None else MeterState._make(row)

    def periods(self, leg: Leg) -> Iterable[tuple[int, int]]:
        return self._run(_PERIODS, (leg.meter, leg.since, leg.period)).fetchall()

    def open(self, legs: Sequence[Leg], shares: Sequence[int], *, settled: bool) -> Sequence[int]:
        sql = _BOOK if settled else _HOLD
        opened = zip(legs, shares, strict=True)
        rows = [(leg.meter, leg.period, share, leg.cap, leg.unit, leg.scope, leg.gone_ms) for leg, share in opened]
        if not settled:
            self._connection.executemany(sql, rows)
            return ()
        return [self._run(sql, row).fetchone()[0] for row in rows]

    def move(self, moves: Sequence[Move]) -> Sequence[int]:
        rows = [(settled, held, overrun, meter, period) for meter, period, settled, held, overrun in moves]
        return [self._run(_MOVE, row).fetchone()[0] for row in rows]

    def newest(self, meter: str) -> tuple[int, int] | None:
        return self._run(_NEWEST, (meter,)).fetchone()  # type: ignore[no-any-return]

    def keep(self, leg: Leg, gone_ms: int) -> None:
        self._run(_KEEP, (gone_ms, leg.meter, leg.period))

    def close(self, now_ms: int, limit: int) -> None:
        if self._next_gone is not None and self._next_gone <= now_ms:
            self._run(_CLOSE, (now_ms, limit))

    def alert(self, leg: Leg, ppm: int, now_ms: int) -> bool:
        return self._run(_ALERT, (leg.meter, leg.period, ppm, now_ms, leg.cap, leg.scope)).rowcount == 1

    def reservation(self, id: str) -> Record | None:
        row = self._run(_BY_ID, (id,)).fetchone()
        return None if row is None else _record(*row)

    def add(self, record: Record, due_ms: int) -> None:
        entry = record.entry or None
        self._run(_ADD, (record.id, record.fingerprint, record.state, entry, record.expires_ms, due_ms))

    def update(self, record: Record, due_ms: int) -> None:
        change: dict[str, Any] = {"shares": record.shares} if record.shares else {}
        if record.state != "held":
            change |= {"booked": record.booked, "overrun": record.overrun, "entry": record.entry}
        self._run(_UPDATE, (record.state, record.expires_ms, due_ms, _encode(change), record.id))

    def due(self, now_ms: int, limit: int) -> Sequence[Record]:
        if self._next_due is None or self._next_due > now_ms:
            return ()
        return [_record(*row) for row in self._run(_DUE, (now_ms, limit))]

    def forget(self, id: str) -> None:
        self._run("DELETE FROM reservation WHERE id = ?", (id,))

    def append(self, at_ms: int, kind: str, id: str, user: str | None, body: Mapping[str, Any]) -> int:
        seq = self._run(_APPEND, (at_ms, kind, id, user, _encode(body))).lastrowid
        assert seq is not None
        return seq

    def profile_revision(self, user: str) -> int:
        row = self._run("SELECT revision FROM profile WHERE user = ?", (user,)).fetchone()
        return 0 if row is None else int(row[0])

    def policy_revision(self) -> int:
        return int(self._run("SELECT coalesce(max(revision), 0) FROM policy").fetchone()[0])

    def profile(self, user: str) -> Revised:
        row = self._run(_PROFILE, (user,)).fetchone()
        return NEVER if row is None else Revised(row[0], json.loads(row[1]))

    def put_profile(self, user: str, profile: Revised) -> None:
        self._run(_PUT_PROFILE, (user, profile.revision, _encode(profile.body)))

    def policy(self, revision: int | None) -> Revised:
        row = self._run(_POLICY, (revision, revision)).fetchone()
        if row is None:
            return NEVER
        number, document, at_ms, by, why, since = row
        return Revised(number, json.loads(document), at_ms, by, why, json.loads(since))

    def add_policy(self, policy: Revised) -> None:
        said = policy.at_ms, policy.by, policy.why, _encode(policy.since)
        self._run(_ADD_POLICY, (policy.revision, _encode(policy.body), *said))

    def entries(self, page: Journal) -> Iterable[Line]:
        query = _ENTRIES + (_IN_ORDER if page.user is None else _BY_USER + _IN_ORDER)
        values = {"after": page.after, "since": page.since_ms, "until": page.until_ms, "limit": page.limit}
        rows = self._run(query, values if page.user is None else values | {"user": page.user})
        return [Line(seq, at, kind, id, user, json.loads(body)) for seq, at, kind, id, user, body in rows]

    def last_entry(self) -> int:
        row = self._run("SELECT seq FROM sqlite_sequence WHERE name = 'entry'").fetchone()
        return 0 if row is None else int(row[0])

    def meters(self, now_ms: int) -> Iterator[Move]:
        rows = self._run("SELECT key, period, settled, held, overrun FROM meter WHERE gone > ?", (now_ms,))
        return (Move(*row) for row in rows)

    def open_reservations(self) -> Iterator[Record]:
        return (_record(*row) for row in self._run(_HELD))

    def deny(self, leg: Leg, minute_ms: int) -> None:
        self._run(_DENY, (leg.meter, minute_ms, leg.cap, leg.scope))

    def put_note(self, topic: str, writer: str, note: Mapping[str, Any], now_ms: int) -> None:
        self._run(_NOTE, (topic, writer, now_ms, _encode(note)))
        self._run(_OLD_NOTES, {"topic": topic, "since": now_ms - NOTES_KEPT_MS, "most": NOTES})

    def notes(self, topic: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
        return [(writer, json.loads(body)) for writer, body in self._run(_NOTES, (topic,))]

    def refusals(self, page: Refusals) -> Iterable[RefusalCount]:
        since = None if page.since_ms is None else page.since_ms - MINUTE_MS
        place = dict(zip(("minute", "key"), page.after, strict=True))
        return map(RefusalCount._make, self._run(_DENIALS, {**_span(page), **place, "since": since}))

    def alerts(self, page: Alerts) -> Iterable[Alert]:
        place = dict(zip(("at", "key", "period", "ppm"), page.after, strict=True))
        return map(Alert._make, self._run(_ALERTS, {**_span(page), **place}))


def _span(page: Refusals | Alerts) -> dict[str, int | None]:
    return {"since": page.since_ms, "until": page.until_ms, "limit": page.limit}


def _record(
    id: str, fingerprint: str, state: Any, expires: int, change: str, entry: int | None, body: str | None
) -> Record:
    """A reservation from its row and the entry that made it; a tombstone has none."""
    if body is None:
        return Record(id, fingerprint, state, _NEVER_MADE, (), expires, entry=0)
    made, shares = read_body(json.loads(body))
    shares = () if state == "settled" else shares
    if not (now := json.loads(change)):
        return Record(id, fingerprint, state, made, shares, expires, entry or 0, made.held if state != "held" else {})
    return Record(
        id,
        fingerprint,
        state,
        made,
        tuple(now.get("shares", shares)),
        expires,
        now.get("entry", entry),
        now.get("booked", {}),
        now.get("overrun", {}),
    )


_NEVER_MADE = Made(None, (), {}, {}, {}, {}, {}, "release", 0, 0, 0)
