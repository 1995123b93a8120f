"""Connections to one file, each used by one thread at a time, none of them across a fork."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from capguard.backends.sqlite.ticket import Ticket
from capguard.errors import BackendUnavailable

SCHEMA_VERSION = 4
_JOURNAL_SIZE_LIMIT = 64 * 1024 * 1024
_APPLICATION_ID = 0x43415047  # "CAPG"

NEWEST = "SELECT seq, at, kind, id FROM entry ORDER BY seq DESC LIMIT 1"
_ENTRY = "SELECT seq, at, kind, id FROM entry WHERE seq = ?"

_pools: weakref.WeakSet[Connections] = weakref.WeakSet()
_inherited: list[
    object
] = []  # a child keeps its parent's handles open and untouched: closing them would drop its locks


class Session:
    """One connection, and its place in the queue of writers."""

    def __init__(self, path: Path, *, timeout: float):
        self._busy_ms = round(timeout * 1000)
        self.ticket = Ticket(f"{path}.lock")
        try:
            self.connection = sqlite3.connect(
                path, timeout=timeout, isolation_level=None, check_same_thread=False, cached_statements=64
            )
        except sqlite3.Error:
            self.ticket.close()
            raise
        stat = path.stat()
        self.file = stat.st_dev, stat.st_ino

    def set_up(self, synchronous: str) -> None:
        for pragma in (
            "journal_mode = WAL",
            f"synchronous = {synchronous}",
            f"journal_size_limit = {_JOURNAL_SIZE_LIMIT}",
            "foreign_keys = OFF",
            "temp_store = MEMORY",
        ):
            self.connection.execute(f"PRAGMA {pragma}")

    def wait_at_most(self, seconds: float) -> None:
        """How long the next transaction waits for writers that stand in no line, to a tenth of a second."""
        busy_ms = max(1, -(-round(seconds * 1000) // 100) * 100)
        if busy_ms != self._busy_ms:
            self._busy_ms = busy_ms
            self.connection.execute(f"PRAGMA busy_timeout = {busy_ms}")

    def close(self) -> None:
        self.connection.close()
        self.ticket.close()


class Connections:
    """A pool for one path. A session serves one command at a time; the pool is as large as the busiest moment was."""

    def __init__(self, path: Path, *, synchronous: str, timeout: float):
        self.path = path
        self.timeout = timeout
        self._synchronous = synchronous
        self._free: list[Session] = []
        self.ready = False
        self.recalled: Sequence[Any] | None = None
        self._file: tuple[int, int] | None = None
        self._opening = threading.Lock()
        _pools.add(self)

    def close(self) -> None:
        while self._free:
            self._free.pop().close()

    def give_back(self, session: Session) -> None:
        """After a command that went well; else the session is closed."""
        self._free.append(session)

    def take(self) -> Session:
        """A free session of this process, or a new one. A file that was deleted or replaced takes writes silently."""
        try:
            session = self._free.pop()
        except IndexError:
            return self._open()
        try:
            self._check_file(session)
        except BaseException:
            session.close()
            raise
        return session

    def _check_file(self, session: Session) -> None:
        """The ledger of this process is one file for good: another one in its place would begin at zero."""
        try:
            stat = os.stat(self.path)  # noqa: PTH116 - on every command: Path.stat costs twice as much
        except FileNotFoundError:
            stat = None
        self._file = self._file or session.file
        if stat is None or not self._file == session.file == (stat.st_dev, stat.st_ino):
            raise BackendUnavailable(f"{self.path} was deleted or replaced while in use; it must be put back")

    def _open(self) -> Session:
        if self._file is not None and not self.path.exists():
            raise BackendUnavailable(f"{self.path} was deleted while in use; it must be put back")
        session = Session(self.path, timeout=self.timeout)
        try:
            self._check_file(session)
            if self.ready:
                session.set_up(self._synchronous)
            else:
                self._open_first(session)
        except BaseException:
            session.close()
            raise
        return session

    def _open_first(self, session: Session) -> None:
        """In turn with all processes: SQLite waits for nobody where it turns a file to WAL, "database is locked"."""
        with self._opening:
            if not session.ticket.take(self.timeout):
                raise BackendUnavailable(f"{self.path}: other writers held the ledger for {self.timeout} s")
            try:
                session.set_up(self._synchronous)
                _prepare(session.connection, self.path)
                self._check_recalled(session.connection)
            finally:
                session.ticket.give_back()
            self.ready = True

    def _check_recalled(self, connection: sqlite3.Connection) -> None:
        """A file that is there and does not have the entry that this host saw last is an older one."""
        if self.recalled is None or connection.execute(NEWEST).fetchone() is None:
            return
        seq, *_ = self.recalled
        if connection.execute(_ENTRY, (seq,)).fetchone() != tuple(self.recalled):
            raise BackendUnavailable(
                f"{self.path} has lost state: it does not have entry {seq}, which was there before; put the newer file"
                " back, or go on with what is left: capguard recover --accept-loss"
            )

    def _after_fork(self) -> None:
        _inherited.extend(self._free)
        self._free = []
        self._opening = threading.Lock()


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables in a new file; refuse a file of another version or of another program."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if version == 0 and owner == 0 and tables == 0:
            _create(connection)
        elif owner != _APPLICATION_ID:
            raise BackendUnavailable(f"{path} is a database of another program; choose another path")
        elif version != SCHEMA_VERSION:
            raise BackendUnavailable(
                f"{path} has schema version {version}, this capguard needs {SCHEMA_VERSION}: "
                + ("upgrade capguard" if version > SCHEMA_VERSION else "migrate the file or choose another path")
            )
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _create(connection: sqlite3.Connection) -> None:
    script = resources.files("capguard.backends.sqlite").joinpath("schema.sql").read_text(encoding="utf-8")
    for statement in _statements(script):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: executescript() would commit the transaction that we are in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _forget_inherited() -> None:
    for pool in list(_pools):
        pool._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)
