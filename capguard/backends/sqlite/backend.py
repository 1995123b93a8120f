"""The SQLite backend: one function call, one transaction."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from capguard.backends.base import Clock, Plain, system_clock
from capguard.backends.sqlite.books import SQLiteBooks
from capguard.backends.sqlite.connections import NEWEST, Connections, Session
from capguard.errors import BackendUnavailable
from capguard.ledger.commands import READS, Command, Publish, Verify
from capguard.ledger.decide import carry_out
from capguard.ledger.outcomes import Outcome

SYNCHRONOUS = ("normal", "full")
LONGEST_S = 5.0
UNHURRIED = (Verify, Publish)
"""Commands that may read the whole journal: nobody's call waits for them."""

_ASYNC_WORKERS = 4  # writers take turns anyway; more threads would only wait


class SQLiteBackend(Plain):
    """`sqlite:///capguard.db` (relative) or `sqlite:////var/lib/capguard.db` (absolute).

    `synchronous=normal`, the default, loses nothing when a process is killed; after a power failure the last commits
    may roll back. `full` keeps those too, at about a fifth of the throughput. `timeout` is how many seconds a command
    waits for its turn to write before it gives up with `BackendUnavailable`: 5, unless `answer_within` says.
    """

    def __init__(
        self,
        path: str | Path,
        clock: Clock = system_clock,
        *,
        synchronous: str = "normal",
        timeout: float | None = None,
    ):
        if synchronous not in SYNCHRONOUS:
            raise ValueError(f"synchronous: {synchronous!r}; allowed: {', '.join(SYNCHRONOUS)}")
        self._path = Path(path).absolute()
        self.url = f"sqlite:///{self._path}"
        self._clock = clock
        self._synchronous = synchronous
        self._given = timeout is not None
        self._timeout = LONGEST_S if timeout is None else timeout
        self._connections = Connections(self._path, synchronous=synchronous, timeout=self._timeout)
        self._workers: tuple[int, ThreadPoolExecutor] | None = None

    def execute(self, command: Command) -> Outcome:
        """Carry out one command in one transaction. Raises BackendUnavailable."""
        reads = isinstance(command, READS)
        try:
            session = self._connections.take()
            try:
                outcome = self._read(session, command) if reads else self._write(session, command)
            except BaseException:
                session.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise BackendUnavailable(f"{self._path}: {error}") from error
        self._connections.give_back(session)
        return outcome

    async def aexecute(self, command: Command) -> Outcome:
        """As `execute`, in a worker thread. Cancelled, the transaction still runs to its end: it is one call."""
        working = asyncio.get_running_loop().run_in_executor(self._executor(), self.execute, command)
        if isinstance(command, UNHURRIED):
            return await asyncio.shield(working)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(working)
        except TimeoutError:
            working.add_done_callback(_heard)
            raise BackendUnavailable(f"{self._path}: no answer within {self._timeout} s") from None

    def answer_within(self, seconds: float) -> None:
        if not self._given and seconds != self._timeout:
            self._timeout = self._connections.timeout = seconds
            self._connections.close()

    def seen(self) -> Sequence[Any] | None:
        """The newest entry. None where this process has opened no file, or it cannot be read."""
        if not self._connections.ready:
            return None
        try:
            session = self._connections.take()
            try:
                found: Sequence[Any] | None = session.connection.execute(NEWEST).fetchone()
            except BaseException:
                session.close()
                raise
        except (sqlite3.Error, OSError, BackendUnavailable):
            return None
        self._connections.give_back(session)
        return found

    def recall(self, seen: Sequence[Any]) -> None:
        self._connections.recalled = seen

    def accept_loss(self) -> int:
        """Go on with what is left. Holds of calls that are gone went with them: none is dropped."""
        self._connections.recalled = None
        return 0

    def weaknesses(self) -> Sequence[str]:
        if self._synchronous == "full":
            return ()
        return ("after a power failure the last bookings may be gone; sqlite:///PATH?synchronous=full keeps them",)

    def close(self) -> None:
        if self._workers is not None and self._workers[0] == os.getpid():
            self._workers[1].shutdown(wait=True)
        self._workers = None
        self._connections.close()

    def _write(self, session: Session, command: Command) -> Outcome:
        """In turn with all other writers of this file."""
        began = time.monotonic()
        if not session.ticket.take(self._timeout):
            raise BackendUnavailable(f"{self._path}: other writers held the ledger for {self._timeout} s")
        try:
            session.wait_at_most(self._timeout - (time.monotonic() - began))
            return self._step(session.connection, "BEGIN IMMEDIATE", command)
        finally:
            session.ticket.give_back()

    def _read(self, session: Session, command: Command) -> Outcome:
        """Beside the writers, on a snapshot."""
        return self._step(session.connection, "BEGIN", command)

    def _step(self, connection: sqlite3.Connection, begin: str, command: Command) -> Outcome:
        connection.execute(begin)
        try:
            books = SQLiteBooks(connection)
            outcome = carry_out(books, command, books.begin(self._clock()))
        except BaseException:
            if connection.in_transaction:  # SQLite has rolled back by itself after a full disk
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return outcome

    def _executor(self) -> ThreadPoolExecutor:
        """Worker threads of this process: a fork leaves the parent's behind."""
        if self._workers is None or self._workers[0] != os.getpid():
            pool = ThreadPoolExecutor(_ASYNC_WORKERS, thread_name_prefix="capguard-sqlite")
            self._workers = os.getpid(), pool
        return self._workers[1]


def _heard(working: asyncio.Future[Outcome]) -> None:
    """Take note of an answer, or an error, that comes after everybody has gone."""
    if not working.cancelled():
        working.exception()
