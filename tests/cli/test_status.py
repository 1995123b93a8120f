"""`capguard status`: every cap of a user, as people and as programs read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Run

CASES = {
    "default plan": (["spent"], "free", {"monthly": ("1", "0", "0"), "calls": ("1", "0", "999")}),
    "named plan": (["rich", "--plan", "pro"], "pro", {"notice": ("2", "0", "0"), "hard": ("2", "0", "7")}),
    "held": (["busy"], "free", {"monthly": ("0", "0.25", "0.75"), "calls": ("0", "1", "999")}),
    "never seen": (["nobody"], "free", {"monthly": ("0", "0", "1"), "calls": ("0", "0", "1000")}),
}


@pytest.mark.parametrize(("words", "plan", "caps"), CASES.values(), ids=CASES)
def test_json(
    run: Run, ledger: str, policy: Path, words: list[str], plan: str, caps: dict[str, tuple[str, str, str]]
) -> None:
    """--json is one object with the plan and, per cap, what is settled, held and left."""
    told = json.loads(run("status", *words, "--url", ledger, "--policy", policy, "--json").stdout)
    found = {cap["id"]: (cap["settled"], cap["held"], cap["remaining"]) for cap in told["caps"]}
    assert told["plan"] == plan
    assert {name: found[name] for name in caps} == caps


def test_table(run: Run, ledger: str, policy: Path) -> None:
    """The table has a row per cap: bar and percent, amounts in the cap's unit, the reset."""
    shown = run("status", "spent", "--url", ledger, "--policy", policy).stdout.splitlines()
    monthly, calls = ("".join(line.split("█")).split() for line in shown[2:4])
    assert shown[0].startswith("spent, plan free, ")
    assert monthly[:8] == ["monthly", "block", "100%", "$1.00", "$0.00", "$1.00", "$0.00", "usd"]
    assert calls[0] == "calls"
    assert calls[-6:] == ["1", "0", "1,000", "999", "requests", "never"]


def test_no_caps(run: Run, ledger: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    assert run("status", "rich", "--url", ledger, "--policy", empty).stdout.endswith("no cap applies\n")


@pytest.mark.parametrize(("user", "code"), [("spent", 1), ("busy", 0), ("rich", 0)])
def test_check(run: Run, ledger: str, policy: Path, user: str, code: int) -> None:
    """--check answers no where a cap that refuses is spent; a cap that only warns does not count."""
    plan = ["--plan", "pro"] if user == "rich" else []
    assert run("status", user, *plan, "--url", ledger, "--policy", policy, "--check", "--json").exit_code == code
