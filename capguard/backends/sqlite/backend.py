"""The SQLite backend: one function call, one transaction."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from capguard.backends.base import Clock, system_clock
from capguard.backends.sqlite.books import SQLiteBooks
from capguard.backends.sqlite.connections import Connections
from capguard.errors import BackendUnavailable
from capguard.ledger.commands import READS, Command
from capguard.ledger.decide import carry_out
from capguard.ledger.outcomes import Outcome

SYNCHRONOUS = ("normal", "full")
_ASYNC_WORKERS = 4  # writers take turns anyway; more threads would only wait


class SQLiteBackend:
    """`sqlite:///capguard.db` (relative) or `sqlite:////var/lib/capguard.db` (absolute).

    `synchronous=normal`, the default, loses nothing when a process is killed; after a power failure the last commits
    may roll back. `full` keeps those too, at about a fifth of the throughput. `timeout` is how many seconds a command
    waits for its turn to write before it gives up with `BackendUnavailable`.
    """

    def __init__(
        self, path: str | Path, clock: Clock = system_clock, *, synchronous: str = "normal", timeout: float = 5.0
    ):
        if synchronous not in SYNCHRONOUS:
            raise ValueError(f"synchronous: {synchronous!r}; allowed: {', '.join(SYNCHRONOUS)}")
        self._path = Path(path).absolute()
        self.url = f"sqlite:///{self._path}"
        self._clock = clock
        self._timeout = timeout
        self._connections = Connections(self._path, synchronous=synchronous, timeout=timeout)
        self._workers: tuple[int, ThreadPoolExecutor] | None = None

    def execute(self, command: Command) -> Outcome:
        """Carry out one command in one transaction. Raises BackendUnavailable."""
        step = self._reading if isinstance(command, READS) else self._writing
        with self._translated(), step() as books:
            return carry_out(books, command, max(self._clock(), books.last_ms()))

    async def aexecute(self, command: Command) -> Outcome:
        """As `execute`, in a worker thread. Cancelled, the transaction still runs to its end: it is one call."""
        working = asyncio.get_running_loop().run_in_executor(self._executor(), self.execute, command)
        return await asyncio.shield(working)

    def close(self) -> None:
        if self._workers is not None and self._workers[0] == os.getpid():
            self._workers[1].shutdown(wait=True)
        self._workers = None
        self._connections.close()

    @contextmanager
    def _writing(self) -> Iterator[SQLiteBooks]:
        with self._connections.session() as session:
            if not session.ticket.take(self._timeout):
                raise BackendUnavailable(f"{self._path}: other writers held the ledger for {self._timeout} s")
            try:
                with _transaction(session.connection, "BEGIN IMMEDIATE"):
                    yield SQLiteBooks(session.connection)
            finally:
                session.ticket.give_back()

    @contextmanager
    def _reading(self) -> Iterator[SQLiteBooks]:
        with self._connections.session() as session, _transaction(session.connection, "BEGIN"):
            yield SQLiteBooks(session.connection)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise BackendUnavailable(f"{self._path}: {error}") from error

    def _executor(self) -> ThreadPoolExecutor:
        """Worker threads of this process: a fork leaves the parent's behind."""
        if self._workers is None or self._workers[0] != os.getpid():
            pool = ThreadPoolExecutor(_ASYNC_WORKERS, thread_name_prefix="capguard-sqlite")
            self._workers = os.getpid(), pool
        return self._workers[1]


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # SQLite has rolled back by itself after a full disk
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
