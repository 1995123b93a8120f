"""`capguard entries`: the journal, filtered, newest last."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from capguard import Guard

from .conftest import Run

NOW = datetime.now(UTC)
CASES: dict[str, tuple[list[str], list[str]]] = {
    "all": (
        [],
        ["one reserve", "one settle", "two book", "three reserve", "three release", "four reserve", "five reserve"],
    ),
    "newest": (["--limit", "2"], ["four reserve", "five reserve"]),
    "of a user": (["--user", "rich"], ["two book", "three reserve", "three release"]),
    "of a kind": (["--kind", "settle"], ["one settle"]),
    "newest of a kind": (["--kind", "reserve", "--limit", "1"], ["five reserve"]),
    "since long ago": (["--since", (NOW - timedelta(days=1)).isoformat(), "--kind", "book"], ["two book"]),
    "since later": (["--since", (NOW + timedelta(days=1)).isoformat()], []),
}


@pytest.mark.parametrize(("words", "wanted"), CASES.values(), ids=CASES)
def test_json_lines(run: Run, ledger: str, words: list[str], wanted: list[str]) -> None:
    """--json is one object per line and nothing else, newest last."""
    told = [json.loads(line) for line in run("entries", "--url", ledger, "--json", *words).stdout.splitlines()]
    assert [f"{entry['id']} {entry['kind']}" for entry in told] == wanted


def test_table(run: Run, ledger: str) -> None:
    """A row per entry; what a ledger contains is never read as markup."""
    shown = run("entries", "--url", ledger, "--user", "[red]odd").stdout.splitlines()
    assert len(shown) == 2
    assert shown[1].split()[3:] == ["reserve", "[red]odd", "$0.1250", "five"]


def test_default_is_the_last_fifty(run: Run, ledger: str) -> None:
    with Guard(ledger, policy={}) as guard:
        for number in range(60):
            guard.allow(user="many", cost="0.001", id=f"many-{number}")
    told = [json.loads(line)["id"] for line in run("entries", "--url", ledger, "--json").stdout.splitlines()]
    assert told == [f"many-{number}" for number in range(10, 60)]


def test_none(run: Run, ledger: str) -> None:
    assert run("entries", "--url", ledger, "--user", "nobody").stdout == "no entries\n"


def test_another_unit(run: Run, ledger: str) -> None:
    """A call that was counted in a unit of one's own is shown in it."""
    with Guard(ledger, policy={"units": {"images": {"*": {"request": 1}}}}) as guard:
        guard.allow(user="painter", amount=3, unit="images")
    assert " 3 images " in run("entries", "--url", ledger, "--user", "painter").stdout
