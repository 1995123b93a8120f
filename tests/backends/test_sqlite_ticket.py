"""Places in line: a waiter gives up after its time-out, and whoever comes next still gets a turn."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from capguard.backends.sqlite import SQLiteBackend
from capguard.backends.sqlite.ticket import Ticket
from capguard.errors import BackendUnavailable
from capguard.ledger.commands import Verify
from capguard.testing.conformance.builders import START_MS, cap, reserve
from capguard.testing.conformance.told import told
from tests.backends.racers import CONTEXT, clock, opened

TEN = cap("ten", 10)


def test_a_waiter_gives_up_and_the_line_goes_on(tmp_path: Path) -> None:
    """One holds, two wait; the first of them has left when its turn comes, and the second gets it."""
    lock = str(tmp_path / "lock")
    holder, impatient, patient = (Ticket(lock) for _ in range(3))
    assert holder.take(60)
    assert not impatient.take(0.01)
    turn = threading.Event()
    waiting = threading.Thread(target=lambda: patient.take(60) and turn.set())
    waiting.start()
    assert not turn.is_set()
    holder.give_back()
    waiting.join(60)
    assert turn.is_set()
    patient.give_back()
    assert holder.take(60)
    for ticket in (holder, impatient, patient):
        ticket.close()


def test_a_command_that_waits_too_long_says_so_and_the_next_one_works(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    backend = SQLiteBackend(path, clock, timeout=0.01)
    assert told(backend.execute(reserve("r1", 4, TEN))) == "held"
    other = Ticket(f"{path}.lock")
    assert other.take(60)
    for _ in range(3):
        with pytest.raises(BackendUnavailable, match=r"other writers held the ledger for 0\.01 s"):
            backend.execute(reserve("r2", 4, TEN))
    assert told(backend.execute(Verify())) == "verified 1 entries, 1 meters, 1 open", "readers do not wait"
    other.close()
    backend.close()
    after = opened(path)
    assert told(after.execute(reserve("r2", 4, TEN))) == "held"
    after.close()


def test_a_file_is_made_in_turn(tmp_path: Path) -> None:
    """SQLite answers "database is locked", without waiting, where two processes turn a new file to WAL at once."""
    path = tmp_path / "ledger.db"
    other = Ticket(f"{path}.lock")
    assert other.take(60)
    backend = SQLiteBackend(path, clock, timeout=0.01)
    with pytest.raises(BackendUnavailable, match="other writers"):
        backend.execute(Verify())
    other.close()
    assert told(backend.execute(Verify())) == "verified 0 entries, 0 meters, 0 open"
    backend.close()


def _stops_within(path: Path, pipe: Any) -> None:
    """Stops while it decides: it has the ticket and SQLite's own lock."""

    def stopping() -> int:
        pipe.send(os.getpid())
        os.kill(os.getpid(), signal.SIGSTOP)
        return START_MS

    SQLiteBackend(path, stopping).execute(reserve("stopped", 4, TEN))


@contextmanager
def _stopped_writer(path: Path) -> Iterator[None]:
    here, there = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_stops_within, args=(path, there), daemon=True)
    process.start()
    there.close()
    here.recv()
    try:
        yield
    finally:
        process.kill()  # nothing less ends a process that is stopped
        process.join()
        here.close()


def test_a_writer_that_is_stopped_makes_others_give_up_not_hang(tmp_path: Path) -> None:
    """When it is gone the ledger works, and of the command that it was in nothing is there."""
    path = tmp_path / "ledger.db"
    backend = SQLiteBackend(path, clock, timeout=0.05)
    assert told(backend.execute(reserve("r1", 4, TEN))) == "held"
    with _stopped_writer(path):
        with pytest.raises(BackendUnavailable, match=r"other writers held the ledger for 0\.05 s"):
            backend.execute(reserve("r2", 4, TEN))
        with pytest.raises(BackendUnavailable):
            SQLiteBackend(path, clock, timeout=0.05).execute(reserve("r2", 4, TEN))
    backend.close()
    after = opened(path)
    assert told(after.execute(reserve("r2", 6, TEN))) == "held"
    assert told(after.execute(Verify())) == "verified 2 entries, 1 meters, 2 open"
    after.close()
