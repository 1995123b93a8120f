"""The older part of a journal, in a SQLite file: what has been moved there is read from there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
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
-- Whose journal it is: the ledger's id, where its keys are, and how it is sharded.
CREATE TABLE ledger (
  id     TEXT NOT NULL,
  place  TEXT NOT NULL,
  layout TEXT NOT NULL
) STRICT;

-- Entries of another life of the ledger, begun in its place after a loss: what they booked is told to the first life.
CREATE TABLE stray (
  number INTEGER PRIMARY KEY,
  mark   TEXT    NOT NULL UNIQUE,
  line   TEXT    NOT NULL,                        -- JSON
  told   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TRIGGER entry_is_final BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER entry_is_kept BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""
_LINES = "SELECT seq, at, kind, id, user, body FROM entry WHERE seq >= ? ORDER BY seq LIMIT ?"


class Archive:
    """The entries of one ledger from the first one on, without a gap. Each call opens and closes the file.

    Raises BackendUnavailable where the file is none, is damaged or is locked, ValueError where it is another ledger's.
    """

    def __init__(self, path: Path):
        self.path = path

    def create(self) -> None:
        """Make an empty one, where there is no file. Raises ValueError where the file is something else."""
        with self._errors(), closing(sqlite3.connect(self.path, isolation_level=None, timeout=30)) as connection:
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

    def belong(self, id: str, place: str, layout: str) -> str:
        """The id of the ledger whose archive it is: of this one, where it was nobody's until now.

        Raises ValueError where it is the archive of another place; the ids are for the caller to compare.
        """
        with self._opened() as connection:
            found = connection.execute("SELECT id, place, layout FROM ledger").fetchone()
            if found is None:
                found = id, place, layout
                connection.execute("INSERT INTO ledger (id, place, layout) VALUES (?, ?, ?)", found)
        if found[1:] != (place, layout):
            raise ValueError(f"{self.path} is the archive of another ledger, {found[1]}{found[2]}, not {place}{layout}")
        return str(found[0])

    def last(self) -> int:
        """The number of the newest entry that is in it, 0 for none."""
        with self._opened() as connection:
            return int(connection.execute("SELECT coalesce(max(seq), 0) FROM entry").fetchone()[0])

    def first_since(self, since_ms: int) -> int | None:
        """The number of the first entry at that time or later; None where all are older."""
        with self._opened() as connection:
            row = connection.execute("SELECT min(seq) FROM entry WHERE at >= ?", (since_ms,)).fetchone()
            found: int | None = row[0]
            return found

    def lines(self, first: int, count: int) -> list[Line]:
        """So many entries from number `first` on."""
        with self._opened() as connection:
            rows = connection.execute(_LINES, (first, count)).fetchall()
        return [Line(seq, at, kind, id, user, json.loads(body)) for seq, at, kind, id, user, body in rows]

    def add(self, lines: Sequence[Line]) -> int:
        """Add what is not there yet, on the disk when this returns. How many were new. Raises ValueError for a gap."""
        with self._opened() as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            last = connection.execute("SELECT coalesce(max(seq), 0) FROM entry").fetchone()[0]
            new = [line for line in lines if line.seq > last]
            if new and new[0].seq != last + 1:
                connection.execute("ROLLBACK")
                raise ValueError(
                    f"{self.path} ends at entry {last}, the store begins at {new[0].seq}: some are in neither"
                )
            rows = [(*line[:5], _encode(line.body)) for line in new]
            connection.executemany("INSERT INTO entry (seq, at, kind, id, user, body) VALUES (?, ?, ?, ?, ?, ?)", rows)
            connection.execute("COMMIT")
        return len(new)

    def keep_strays(self, lines: Sequence[tuple[str, Line]]) -> None:
        """Keep entries of another life, each under its mark and once, on the disk when this returns."""
        with self._opened() as connection:
            connection.execute("PRAGMA synchronous = FULL")
            rows = [(mark, _encode(line)) for mark, line in lines]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR IGNORE INTO stray (mark, line) VALUES (?, ?)", rows)
            connection.execute("COMMIT")

    def strays(self) -> list[Line]:
        """Those that were not told yet."""
        with self._opened() as connection:
            rows = connection.execute("SELECT line FROM stray WHERE told = 0 ORDER BY number").fetchall()
        return [Line(*json.loads(line)) for (line,) in rows]

    def told(self) -> None:
        """All strays are in the books."""
        with self._opened() as connection:
            connection.execute("UPDATE stray SET told = 1")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with self._errors():
            url = f"{self.path.as_uri()}?mode=rw"
            with closing(sqlite3.connect(url, uri=True, isolation_level=None, timeout=30)) as connection:
                if connection.execute("PRAGMA application_id").fetchone()[0] != _OWNER:
                    raise BackendUnavailable(f"{self.path} is no archive of a ledger")
                yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise BackendUnavailable(f"the archive {self.path}: {error}") from error


def _encode(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
