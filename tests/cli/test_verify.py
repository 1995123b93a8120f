"""`capguard verify`: differences between journal and meters are found and named."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from .conftest import Run


def change(ledger: str, statement: str) -> None:
    with closing(sqlite3.connect(ledger.removeprefix("sqlite:///"))) as connection, connection:
        connection.executescript(statement)


def test_clean(run: Run, ledger: str) -> None:
    told = json.loads(run("verify", "--url", ledger, "--json").stdout)
    assert told == {
        "ok": True,
        "differences": [],
        "complete": True,
        "why": "",
        "entries": 7,
        "meters": told["meters"],
        "open": 2,
    }
    assert run("verify", "--url", ledger).stdout == f"0 differences in 7 entries, {told['meters']} meters\n"


TAMPERED = {
    "a meter": ("UPDATE meter SET settled = settled + 5 WHERE cap = 'monthly' AND settled > 0", "1 difference in "),
    "an entry gone": (
        "DROP TRIGGER entry_is_kept; DELETE FROM entry WHERE kind = 'book'",
        "the journal is not complete",
    ),
}


@pytest.mark.parametrize(("statement", "says"), TAMPERED.values(), ids=TAMPERED)
def test_tampered(run: Run, ledger: str, statement: str, says: str) -> None:
    """Whatever was changed behind capguard's back shows, and ends with 1."""
    change(ledger, statement)
    result = run("verify", "--url", ledger)
    assert result.exit_code == 1
    assert says in result.stdout


def test_difference_is_named(run: Run, ledger: str) -> None:
    change(ledger, TAMPERED["a meter"][0])
    result = run("verify", "--url", ledger, "--json")
    (difference,) = json.loads(result.stdout)["differences"]
    assert result.exit_code == 1
    assert (difference["what"], difference["stored"] - difference["journal"]) == ("settled", 5)
    shown = run("verify", "--url", ledger).stdout.splitlines()
    assert shown[2].split()[-3:] == ["settled", str(difference["journal"]), str(difference["stored"])]
    assert shown[2].startswith(difference["meter"])
