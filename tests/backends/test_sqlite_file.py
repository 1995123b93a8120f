"""The file of the ledger: what is not ours is refused, what goes wrong with it is said, and nothing is ever torn."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from capguard.backends.sqlite import SQLiteBackend
from capguard.errors import BackendUnavailable
from capguard.ledger.commands import Journal, Verify
from capguard.ledger.outcomes import Held, Lines
from capguard.testing.conformance.builders import cap, reserve, settle
from capguard.testing.conformance.told import told
from tests.backends.racers import CONTEXT, clock

TEN = cap("ten", 10)
ROOMY = cap("roomy", 10**9)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SQLiteBackend]:
    backend = SQLiteBackend(path, clock)
    assert told(backend.execute(reserve("r1", 4, TEN))) == "held"
    yield backend
    backend.close()


def altered(path: Path, *statements: str) -> None:
    """Change the file behind the backend's back."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["PRAGMA user_version = 99"], "schema version 99, this capguard needs 4: upgrade capguard"),
        (["PRAGMA user_version = 0"], "schema version 0, this capguard needs 4: migrate the file"),
        (["PRAGMA application_id = 7"], "a database of another program; choose another path"),
    ],
)
def test_a_file_of_another_version_is_refused(backend, path: Path, statements: list[str], message: str) -> None:
    altered(path, *statements)
    with pytest.raises(BackendUnavailable, match=message):
        SQLiteBackend(path, clock).execute(Verify())


def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    altered(path, "CREATE TABLE orders (id INTEGER)")
    with pytest.raises(BackendUnavailable, match="another program"):
        SQLiteBackend(path, clock).execute(reserve("r1", 4, TEN))
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("orders",)]
    connection.close()


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("Dear diary, today I spent nothing. " * 100)
    with pytest.raises(BackendUnavailable, match="not a database"):
        SQLiteBackend(path, clock).execute(Verify())
    assert path.read_text().startswith("Dear diary")


def test_a_directory_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(BackendUnavailable, match="unable to open database file"):
        SQLiteBackend(path, clock).execute(Verify())


def test_a_file_that_is_refused_leaves_nothing_open(path: Path) -> None:
    """An application asks again with every call: each handle that stays open would be lost."""
    path.mkdir()
    directory, diary = SQLiteBackend(path, clock), SQLiteBackend(path.with_name("diary.db"), clock)
    path.with_name("diary.db").write_text("Dear diary")
    before = len(list(Path("/dev/fd").iterdir()))
    for backend in [directory, diary] * 5:
        with pytest.raises(BackendUnavailable):
            backend.execute(Verify())
    assert len(list(Path("/dev/fd").iterdir())) == before


def _in_a_directory_of_others(directory: Path, pipe: Any) -> None:
    if os.geteuid() == 0:
        os.setuid(65534)  # root may write anywhere: be nobody
    try:
        SQLiteBackend(directory / "ledger.db", clock).execute(Verify())
    except BackendUnavailable as error:
        pipe.send(str(error))


def test_a_directory_that_may_not_be_written_is_said() -> None:
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o555)
    try:
        assert "Permission denied" in _asked(_in_a_directory_of_others, directory)
    finally:
        directory.rmdir()


def _deleted(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def _replaced(path: Path) -> None:
    _deleted(path)
    other = SQLiteBackend(path, clock)
    other.execute(reserve("other", 1, TEN))
    other.close()


@pytest.mark.parametrize("what", [_deleted, _replaced])
def test_a_file_that_goes_away_under_a_live_connection_is_noticed(
    backend: SQLiteBackend, path: Path, what: Callable[[Path], None]
) -> None:
    """SQLite would go on writing to the file that is no longer there."""
    what(path)
    with pytest.raises(BackendUnavailable, match="deleted or replaced"):
        backend.execute(reserve("r2", 4, TEN))


def test_after_the_file_was_deleted_nothing_starts_at_zero(backend: SQLiteBackend, path: Path) -> None:
    """A backend that had seen a ledger does not take an empty file for it."""
    _deleted(path)
    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            backend.execute(reserve("r2", 4, TEN))


@pytest.mark.parametrize("statement", ["UPDATE entry SET at = 0", "DELETE FROM entry"])
def test_the_journal_is_append_only(backend: SQLiteBackend, path: Path, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        altered(path, statement)
    assert told(backend.execute(Verify())) == "verified 1 entries, 1 meters, 1 open"


def test_a_full_disk_is_said_and_tears_nothing(backend: SQLiteBackend, path: Path) -> None:
    """What was acknowledged before is there, what was refused is not, and with room it goes on."""
    _may_not_grow(backend)
    held = _held_until_full(backend)
    assert told(backend.execute(Verify())) == f"verified {held + 1} entries, 2 meters, {held + 1} open"
    assert told(backend.execute(reserve(f"f{held}", 1, ROOMY))) == "held"


def _held_until_full(backend: SQLiteBackend) -> int:
    for n in range(10_000):
        try:
            assert isinstance(backend.execute(reserve(f"f{n}", 1, ROOMY)), Held)
        except BackendUnavailable as error:
            return n if "full" in str(error) else -1
    return -1


def _may_not_grow(backend: SQLiteBackend) -> None:
    [session] = backend._connections._free
    pages = session.connection.execute("PRAGMA page_count").fetchone()[0]
    session.connection.execute(f"PRAGMA max_page_count = {pages}")


def _forks(path: Path, pipe: Any) -> None:
    """Use the ledger, fork, and use it on both sides at once: the child on a connection of its own."""
    backend = SQLiteBackend(path, clock, timeout=60)
    backend.execute(reserve("before", 1, ROOMY))
    [inherited] = backend._connections._free
    child = os.fork()
    mine = "child" if child == 0 else "parent"
    held = sum(isinstance(backend.execute(reserve(f"{mine}-{n}", 1, ROOMY)), Held) for n in range(50))
    if child == 0:
        os._exit(0 if held == 50 and inherited not in backend._connections._free else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    pipe.send((held, status, told(backend.execute(Verify()))))


def test_after_a_fork_parent_and_child_go_on(path: Path) -> None:
    assert _asked(_forks, path) == (50, 0, "verified 101 entries, 1 meters, 101 open")


def _asked(what: Callable[[Path, Any], None], path: Path) -> Any:
    """What a process of its own has to say."""
    here, there = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=what, args=(path, there), daemon=True)
    process.start()
    there.close()
    try:
        return here.recv()
    finally:
        here.close()
        process.join()
        process.close()


@pytest.mark.parametrize("harm", ["cut off", "overwritten"])
def test_a_torn_log_opens_at_an_earlier_commit(path: Path, tmp_path: Path, harm: str) -> None:
    """Power fails while the log is written: the ledger opens with a prefix of what was committed, meters and all."""
    backend = SQLiteBackend(path, clock)
    for n in range(30):
        backend.execute(reserve(f"r{n}", 2, ROOMY))
        backend.execute(settle(f"r{n}", 1))
    whole = _lines(backend)
    chance = random.Random(11)
    kept = [_lines_after(path, tmp_path / f"torn{n}.db", harm, chance) for n in range(20)]
    backend.close()
    assert all(lines == whole[: len(lines)] for lines in kept)
    assert len({len(lines) for lines in kept}) > 5


def _lines_after(path: Path, copy: Path, harm: str, chance: random.Random) -> tuple[Any, ...]:
    shutil.copy(path, copy)
    log = Path(f"{path}-wal").read_bytes()
    at = chance.randrange(len(log))
    rest = chance.randbytes(min(4096, len(log) - at)) if harm == "overwritten" else b""
    Path(f"{copy}-wal").write_bytes(log[:at] + rest)
    backend = SQLiteBackend(copy, clock)
    assert told(backend.execute(Verify())).startswith("verified")
    lines = _lines(backend)
    assert told(backend.execute(reserve("goes on", 1, ROOMY))) == "held"
    backend.close()
    return lines


def _lines(backend: SQLiteBackend) -> tuple[Any, ...]:
    found = backend.execute(Journal())
    assert isinstance(found, Lines)
    return found.lines
