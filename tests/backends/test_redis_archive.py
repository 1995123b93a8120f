"""The journal moves out of the store, each entry once, and is read with it as one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from capguard import BackendUnavailable, Guard
from capguard.backends.redis.archive import Archive
from capguard.cli.app import app
from capguard.testing import ManualClock
from tests.backends.redis_place import Place

POLICY = {"caps": [{"id": "c", "limit": 1000}], "failure": {"backend": "closed", "deadline": 10}}
DAYS = 3


class Books:
    """A Guard on a namespace of its own, with calls on some days."""

    def __init__(self, place: Place, tmp_path: Path, clock: ManualClock):
        self.place, self.clock, self.path = place, clock, tmp_path / "journal.db"

    def guard(self, *, archive: bool) -> Guard:
        url = f"{self.place.server.url}?deadline=10" + (f"&archive={self.path}" if archive else "")
        return Guard(url, policy=POLICY, namespace=self.place.namespace, clock=self.clock)

    def spend(self, calls: int) -> None:
        with self.guard(archive=False) as guard:
            for _ in range(calls):
                guard.settle(guard.reserve(user="u1", cost=1), cost=1)

    def archive(self) -> tuple[int, int, int]:
        backend = self.place.open(self.clock)
        done: tuple[int, int, int] = backend.archive(self.path)
        return done


@pytest.fixture
def books(place: Place, tmp_path: Path, clock: ManualClock) -> Books:
    made = Books(place, tmp_path, clock)
    for _ in range(DAYS):
        made.spend(10)
        clock.advance(days=1)
    return made


def test_what_is_old_moves_and_both_are_read_as_one(books: Books) -> None:
    with books.guard(archive=False) as guard:
        before = [(entry.seq, entry.kind, entry.id, entry.amounts) for entry in guard.entries()]
    assert books.archive() == (60, 20, 60)  # what is of the first day leaves the store
    with books.guard(archive=True) as guard:
        assert [(entry.seq, entry.kind, entry.id, entry.amounts) for entry in guard.entries()] == before
        assert guard.verify()
        later = books.clock.now - timedelta(days=2, hours=1)
        assert len(list(guard.entries(since=later))) == 40
        assert len(list(guard.entries(after=15))) == 45
        assert guard.status(user="u1").caps["c"].settled == 30


def test_without_the_archive_the_journal_says_what_is_missing(books: Books) -> None:
    books.archive()
    with books.guard(archive=False) as guard:
        found = guard.verify()
        assert (found.complete, "20 entries are missing" in found.why) == (False, True)


def test_it_goes_on_where_it_was(books: Books) -> None:
    """Again with nothing new, and with more."""
    books.archive()
    assert books.archive() == (0, 0, 60)
    books.spend(5)
    books.clock.advance(days=4)
    books.spend(1)
    assert books.archive() == (12, 50, 72)
    with books.guard(archive=True) as guard:
        assert len(list(guard.entries())) == 72
        assert guard.verify()


def test_open_calls_keep_their_entries(books: Books) -> None:
    """However old: their end needs what was made."""
    with books.guard(archive=False) as guard:
        held = guard.reserve(user="u1", cost=2, id="held", ttl=80_000)
        books.clock.advance(hours=20)
        books.spend(1)
        assert books.place.open(books.clock).archive(books.path, 0).dropped == 60
        other = books.guard(archive=False)
        assert other.settle(held.id, cost=1).cost == 1
        other.close()


def test_a_repeat_finds_what_was_answered(books: Books) -> None:
    """A day long, so entries stay as long at least."""
    with books.guard(archive=True) as guard:
        reservation = guard.reserve(user="u1", cost=2)
        first = guard.settle(reservation, cost=1)
        books.clock.advance(hours=23)
        books.archive()
        assert guard.settle(reservation, cost=1) == first


def test_the_archive_of_another_ledger_is_refused(books: Books, server: object, clock: ManualClock) -> None:
    books.archive()
    other = Books(Place(books.place.server), books.path.parent, clock)
    other.spend(40)
    with pytest.raises(ValueError, match="another ledger"):
        other.archive()


def test_a_gap_is_refused(books: Books) -> None:
    """The archive was thrown away, and the store had dropped what was in it."""
    books.archive()
    books.path.unlink()
    with pytest.raises(ValueError, match="in neither"):
        books.archive()


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be read as one" * 9, None])
def test_a_file_of_another_kind_is_refused(books: Books, content: bytes | None) -> None:
    if content is None:
        with Guard(f"sqlite:///{books.path}", policy=POLICY) as guard:
            guard.allow(user="u1", amount=1)
    else:
        books.path.write_bytes(content)
    with pytest.raises(ValueError, match="another kind"):
        books.archive()


def test_an_archive_that_is_not_there_is_said_to_be_away(books: Books) -> None:
    with books.guard(archive=True) as guard, pytest.raises(BackendUnavailable, match=r"journal\.db"):
        list(guard.entries())


KILLED = """
import sys
from pathlib import Path
from capguard.backends.redis import RedisBackend
backend = RedisBackend(sys.argv[1], namespace=sys.argv[2], deadline=10)
print("go", flush=True)
backend.archive(Path(sys.argv[3]), 0)
"""


def test_killed_anywhere(place: Place, tmp_path: Path) -> None:
    """kill -9 at any moment, again and again, two at a time: every entry is in one of both, and none twice."""
    path = tmp_path / "journal.db"
    with Guard(f"{place.server.url}?deadline=10", policy=POLICY, namespace=place.namespace) as guard:
        for _ in range(1200):
            guard.allow(user="u1", amount="0.01")
        for number in range(6):
            runs = [
                subprocess.Popen(
                    [sys.executable, "-c", KILLED, place.server.url, place.namespace, str(path)],
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ,
                )
                for _ in range(2)
            ]  # fmt: skip
            for run in runs:
                assert run.stdout is not None
                run.stdout.readline()
            time.sleep(0.005 * number)
            for run in runs:
                run.send_signal(signal.SIGKILL)
                run.wait()
                assert run.stdout is not None
                run.stdout.close()
        done = place.open().archive(path, 0)
        assert done.last == 1200
    assert Archive(path).last() == 1200
    url = f"{place.server.url}?deadline=10&archive={path}"
    with Guard(url, policy=POLICY, namespace=place.namespace) as guard:
        assert [entry.seq for entry in guard.entries()] == list(range(1, 1201))
        assert guard.verify()


def test_the_command(books: Books) -> None:
    url = books.place.server.url
    words = ["archive", "--url", url, "--namespace", books.place.namespace, "--to", str(books.path)]
    said = CliRunner().invoke(app, words)
    assert (said.exit_code, "60 entries copied, up to number 60" in said.output) == (0, True)
    both = f"{url}?archive={books.path}"
    found = CliRunner().invoke(app, ["verify", "--url", both, "--namespace", books.place.namespace])
    assert (found.exit_code, "0 differences in 60 entries" in found.output) == (0, True)
    refused = CliRunner().invoke(app, ["archive", "--url", "sqlite:///x.db", "--to", str(books.path)])
    assert refused.exit_code == 2
