"""The older part of a journal, in a SQLite file: what has been moved there is read from there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from capguard.errors import BackendUnavailable
from capguard.ledger.outcomes import Line

_OWNER = 0x43415041  # "CAPA"
_CREATE = """
CREATE TABLE entry (
  seq  INTEGER PRIMARY KEY,
  at   INTEGER NOT NULL,
  kind TEXT    NOT NULL,
  id   TEXT    NOT NULL,
  user TEXT,
  body TEXT    NOT NULL                           -- JSON
) STRICT;
CREATE INDEX entry_at ON entry (at);
CREATE TRIGGER entry_is_final BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER entry_is_kept BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""
_JOINED = "CREATE TABLE IF NOT EXISTS joined (seq INTEGER, mark TEXT, PRIMARY KEY (seq, mark)) STRICT, WITHOUT ROWID"
_LINES = "SELECT seq, at, kind, id, user, body FROM entry WHERE seq >= ? ORDER BY seq LIMIT ?"


class Archive:
    """The entries of one ledger from the first one on, without a gap. Each call opens and closes the file."""

    def __init__(self, path: Path):
        self.path = path

    def create(self) -> None:
        """Make an empty one, where there is no file. Raises ValueError where the file is something else."""
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=30)) as connection:
            try:
                owner = connection.execute("PRAGMA application_id").fetchone()[0]
                tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            except sqlite3.DatabaseError:
                owner = tables = -1
            if owner == _OWNER:
                return
            if owner or tables:
                raise ValueError(f"{self.path} is a file of another kind; allowed: an archive, or a new file")
            connection.executescript(f"BEGIN IMMEDIATE; {_CREATE} PRAGMA application_id = {_OWNER}; COMMIT;")

    def last(self) -> int:
        """The number of the newest entry that is in it, 0 for none."""
        with closing(self._opened()) as connection:
            return _last(connection)

    def first_since(self, since_ms: int) -> int | None:
        """The number of the first entry at that time or later; None where all are older."""
        with closing(self._opened()) as connection:
            found: int | None = connection.execute("SELECT min(seq) FROM entry WHERE at >= ?", (since_ms,)).fetchone()[
                0
            ]
            return found

    def lines(self, first: int, count: int) -> list[Line]:
        """So many entries from number `first` on."""
        with closing(self._opened()) as connection:
            rows = connection.execute(_LINES, (first, count)).fetchall()
        return [Line(seq, at, kind, id, user, json.loads(body)) for seq, at, kind, id, user, body in rows]

    def add(self, lines: Sequence[Line]) -> int:
        """Add what is not there yet, on the disk when this returns. How many were new. Raises ValueError for a gap."""
        with closing(self._opened()) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            last = _last(connection)
            new = [line for line in lines if line.seq > last]
            if new and new[0].seq != last + 1:
                connection.execute("ROLLBACK")
                raise self._gap(last, new[0].seq)
            _insert(connection, new)
            connection.execute("COMMIT")
        return len(new)

    def join(self, lines: Sequence[tuple[str, Line]]) -> int:
        """Add entries of a store that has lost others, each under its mark: once, and after those that are there.

        One that has another's number gets the next free one. How many were new. Raises ValueError for a gap.
        """
        with closing(self._opened()) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(_JOINED)
            connection.execute("BEGIN IMMEDIATE")
            last = before = _last(connection)
            at_ms = connection.execute("SELECT coalesce(max(at), 0) FROM entry").fetchone()[0]
            for mark, line in lines:
                if line.seq > last + 1:
                    connection.execute("ROLLBACK")
                    raise self._gap(last, line.seq)
                if _is_there(connection, mark, line):
                    continue
                last, at_ms = last + 1, max(at_ms, line.at_ms)  # time never runs backward in a journal
                connection.execute("INSERT INTO joined (seq, mark) VALUES (?, ?)", (line.seq, mark))
                _insert(connection, [line._replace(seq=last, at_ms=at_ms)])
            connection.execute("COMMIT")
        return int(last - before)

    def _gap(self, last: int, first: int) -> ValueError:
        return ValueError(f"{self.path} ends at entry {last}, the store begins at {first}: some are in neither")

    def _opened(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(f"{self.path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=30)
            if connection.execute("PRAGMA application_id").fetchone()[0] == _OWNER:
                return connection
        except sqlite3.Error as error:
            raise BackendUnavailable(f"the archive {self.path}: {error}") from error
        connection.close()
        raise BackendUnavailable(f"{self.path} is no archive of a ledger")


def _last(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM entry").fetchone()[0])


def _is_there(connection: sqlite3.Connection, mark: str, line: Line) -> bool:
    """Whether an entry was archived under its number, or joined under its mark."""
    here = connection.execute("SELECT seq, at, kind, id, user FROM entry WHERE seq = ?", (line.seq,)).fetchone()
    joined = connection.execute("SELECT 1 FROM joined WHERE seq = ? AND mark = ?", (line.seq, mark)).fetchone()
    return here == line[:5] or joined is not None


def _insert(connection: sqlite3.Connection, lines: Sequence[Line]) -> None:
    rows = [(*line[:5], json.dumps(line.body, ensure_ascii=False, separators=(",", ":"))) for line in lines]
    connection.executemany("INSERT INTO entry (seq, at, kind, id, user, body) VALUES (?, ?, ?, ?, ?, ?)", rows)
