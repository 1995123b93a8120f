"""`capguard demo` as a user runs it: real processes, OpenAI's SDK over HTTP, one SQLite file."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from capguard import Guard


def demo(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from capguard.cli import main; main()", "demo", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "kept.db"


@pytest.fixture(scope="module")
def told(kept: Path) -> dict[str, Any]:
    """One short run; its JSON is all that it writes."""
    ended = demo("--seconds", "6", "--users", "60", "--workers", "2", "--json", "--keep", str(kept))
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


def test_caps_do_something(told: dict[str, Any]) -> None:
    """Heavy users are blocked, downgraded and warned, in that traffic, with that policy."""
    assert told["blocked"] > 0
    assert told["downgraded"] > 0
    assert told["warned"] > 0


def test_numbers_agree(told: dict[str, Any]) -> None:
    """Exactly the allowed calls reached the provider, and the ledger adds up to the last nano-dollar."""
    assert told["ok"]
    assert all(told["checks"].values())
    assert told["provider_calls"] == told["allowed"] == told["replayed"] - told["blocked"]
    assert (told["verify"]["differences"], told["verify"]["complete"], told["verify"]["open"]) == ([], True, 0)
    spent, saved = (
        sum(Decimal(told[name]) for name in names)
        for names in (("spent",), ("saved_by_blocking", "saved_by_downgrading"))
    )
    assert spent + saved == Decimal(told["without_caps"])


def test_plans_add_up(told: dict[str, Any]) -> None:
    assert sum(plan["calls"] for plan in told["plans"]) == told["replayed"]
    assert sum(Decimal(plan["spent"]) for plan in told["plans"]) == Decimal(told["spent"])
    assert {plan["held"] for plan in told["plans"]} == {"0"}


def test_nearest(told: dict[str, Any]) -> None:
    """The eight fullest caps of users, none over its limit, fullest first."""
    fractions = [one["fraction"] for one in told["nearest"]]
    assert len(fractions) == 8
    assert fractions == sorted(fractions, reverse=True)
    assert fractions[0] <= 1


def test_the_ledger_is_kept(told: dict[str, Any], kept: Path) -> None:
    """The file that --keep names is a ledger like any other, and says the same."""
    with Guard(f"sqlite:///{kept}", policy={}) as guard:
        assert guard.verify()
        settled = [entry.cost for entry in guard.entries() if entry.kind == "settle"]
    assert (len(settled), sum(settled)) == (told["allowed"], Decimal(told["spent"]))


def test_plain_output() -> None:
    """In a pipe: the legend, the last page, no control sequences."""
    ended = demo("--seconds", "3", "--users", "10", "--workers", "1")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("300 real requests of 10 users")
    assert "\x1b" not in ended.stdout
    assert "FAIL" not in ended.stdout
    assert "verify: 0 differences" in ended.stdout
