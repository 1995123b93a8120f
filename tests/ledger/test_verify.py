"""verify() rebuilds every meter from the entries (P9): whatever is changed behind the ledger's back shows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from capguard.backends.sqlite import SQLiteBackend
from capguard.ledger import verify
from capguard.ledger.commands import Verify
from capguard.ledger.outcomes import Difference, Verified
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import cap, extend, release, reserve, settle

TEN = cap("ten", 10)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[SQLiteBackend]:
    """Entries 1 to 6: a settled call of 3, a hold of 2 raised to 4, a released one. The meter: 3 settled, 4 held."""
    backend = SQLiteBackend(tmp_path / "ledger.db", ManualClock())
    commands = [reserve("a", 5, TEN), settle("a", 3), reserve("b", 2, TEN), extend("b", amount=4), reserve("c", 1, TEN)]
    for command in [*commands, release("c")]:
        backend.execute(command)
    yield backend
    backend.close()


def _verified(books: SQLiteBackend) -> Verified:
    outcome = books.execute(Verify())
    assert isinstance(outcome, Verified)
    return outcome


def _tampered(books: SQLiteBackend, statement: str) -> Verified:
    """What a verification says after somebody changed the file by hand."""
    connection = sqlite3.connect(books.url.removeprefix("sqlite:///"), isolation_level=None)
    for trigger in ("entry_is_final", "entry_is_kept"):
        connection.execute(f"DROP TRIGGER {trigger}")
    assert connection.execute(statement).rowcount == 1
    connection.close()
    return _verified(books)


def test_books_that_nobody_touched_are_right(books: SQLiteBackend) -> None:
    assert _verified(books) == Verified((), entries=6, meters=1, open=1)


HELD = "held by open reservations"
TAMPERED = [
    ("UPDATE meter SET settled = 2", [("settled", 3, 2)]),
    ("UPDATE meter SET overrun = 7", [("overrun", 0, 7)]),
    ("UPDATE meter SET held = 1", [("held", 4, 1), (HELD, 4, 1)]),
    ("DELETE FROM meter", [("settled", 3, 0), ("held", 4, 0), (HELD, 4, 0)]),
    ("UPDATE reservation SET change = '{\"shares\": [1]}' WHERE id = 'b'", [(HELD, 1, 4)]),
    ("DELETE FROM reservation WHERE id = 'b'", [(HELD, 0, 4)]),
    ("UPDATE reservation SET state = 'released' WHERE id = 'b'", [(HELD, 0, 4)]),
    ("UPDATE entry SET body = json_set(body, '$.moves[0][2]', 9) WHERE seq = 2", [("settled", 9, 3)]),
]


@pytest.mark.parametrize(("statement", "differences"), TAMPERED)
def test_every_change_shows(books: SQLiteBackend, statement: str, differences: list[tuple[str, int, int]]) -> None:
    """Each difference says which meter, and what the journal and the store have."""
    found = _tampered(books, statement)
    assert found.complete
    assert list(found.differences) == [Difference(TEN.meter, TEN.period, *each) for each in differences]


def test_a_changed_hold_of_an_entry_shows(books: SQLiteBackend) -> None:
    """The release says that 1 was given back, the changed reserve that 5 had been held."""
    found = _tampered(books, "UPDATE entry SET body = json_set(body, '$.shares[0]', 5) WHERE seq = 5")
    assert [(each.what, each.journal, each.stored) for each in found.differences] == [("held", 8, 4)]


def test_a_meter_out_of_nowhere_shows(books: SQLiteBackend) -> None:
    found = _tampered(books, "INSERT INTO meter SELECT 'nowhere', period, 1, 0, 0, cap, unit, scope, gone FROM meter")
    assert list(found.differences) == [Difference("nowhere", TEN.period, "settled", 0, 1)]


@pytest.mark.parametrize("seq", [1, 2, 4])
def test_a_missing_entry_makes_the_verification_incomplete(books: SQLiteBackend, seq: int) -> None:
    found = _tampered(books, f"DELETE FROM entry WHERE seq = {seq}")
    assert (found.complete, found.why) == (False, "1 entries are missing from the journal")
    assert found.differences


def test_a_journal_longer_than_a_page_is_read_to_its_end(books: SQLiteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "PAGE", 4)
    assert _verified(books) == Verified((), entries=6, meters=1, open=1)
    monkeypatch.setattr(verify, "PAGE", 3)
    assert _verified(books) == Verified((), entries=6, meters=1, open=1)
