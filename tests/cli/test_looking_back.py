"""`capguard log` and `capguard report`, as people and as programs read them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from capguard import Guard

from .conftest import Run

PRICED = '\n[plans.team]\nprice = 2\ncaps = [{ id = "watch", limit = 1, action = "dry_run" }]\n'


@pytest.fixture
def plans(policy: Path) -> Path:
    file = policy.with_name("plans.toml")
    file.write_text(policy.read_text().replace("[[caps]]", f"{PRICED}\n[[caps]]"))
    return file


@pytest.fixture
def told(ledger: str, plans: Path) -> str:
    """The ledger with two users on a plan with a price, one of them under water, and a grant."""
    with Guard(ledger, policy=plans) as guard:
        guard.allow(user="deep", plan="team", cost="2.5", feature="chat")
        guard.allow(user="shallow", plan="team", cost="0.25", feature="chat")
        guard.grant(user="shallow", amount=1, id="promo", by="[red]eve", why="why\nnot")
    return ledger


def test_log_json(run: Run, told: str) -> None:
    """JSON lines, oldest first: what caps did and what was steered."""
    lines = [json.loads(line) for line in run("log", "--url", told, "--json").stdout.splitlines()]
    found = {(line["kind"], line["cap"], line["user"], line["count"]) for line in lines}
    assert {
        ("denied", "monthly", "spent", 1),
        ("warned", "notice", "rich", 1),
        ("dry_run", "watch", "deep", 1),
    } <= found
    assert [line["id"] for line in lines if line["kind"] == "policy"] == ["promo"]
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)


def test_log_table(run: Run, told: str) -> None:
    """A row per line, whatever stands in it."""
    newest = [line for line in run("log", "--url", told).stdout.splitlines() if " policy " in line]
    assert len(newest) == 1
    assert newest[0].endswith("grant promo: 1 usd (revision 1, by [red]eve): why not")


def test_log_limit_and_time(run: Run, told: str) -> None:
    everything = run("log", "--url", told, "--json").stdout.splitlines()
    assert run("log", "--url", told, "--json", "--limit", "3").stdout.splitlines() == everything[-3:]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert run("log", "--url", told, "--since", later).stdout == "nothing to tell\n"
    assert run("log", "--url", told, "--until", later, "--json").stdout.splitlines() == everything[-50:]


def test_report_json(run: Run, told: str, plans: Path) -> None:
    """Per plan what it cost and earned; per cap that only watches what it would have blocked."""
    found = json.loads(run("report", "--url", told, "--policy", plans, "--json").stdout)
    team = next(row for row in found["rows"] if row["key"] == "team")
    assert (team["calls"], team["cost"]) == (2, "2.75")
    assert team["economics"] == {
        "customers": 2,
        "price": "2",
        "revenue": "4",
        "margin": "1.25",
        "under_water": 1,
        "worst": [{"user": "deep", "cost": "2.5", "loss": "0.5"}],
    }
    assert {"cap": "watch", "action": "dry_run", "calls": 1, "cost": "2.5", "users": 1} in found["shadow"]
    assert {"cap": "monthly", "key": None, "times": 1} in found["denials"]


def test_report_table(run: Run, told: str, plans: Path) -> None:
    """The groups with their total, then who is under water, then what watching caps would have blocked."""
    shown = run("report", "--url", told, "--policy", plans).stdout
    rows = [line.split() for line in shown.splitlines()]
    assert ["team", "2", "0", "0", "$2.75", "$2.75", "$0.00", "2", "$2.00", "$4.00", "$1.25", "1"] in rows
    assert ["total", "4", "0", "0", "$5.75", "$5.75", "$0.3750"] in rows
    assert "plan team: 1 users under water" in shown
    assert ["deep", "$2.50", "$0.50"] in rows
    assert ["watch", "dry_run", "1", "$2.50", "1"] in rows
    assert rows[rows.index(["cap", "plan", "times"]) + 1] == ["monthly", "1"]
    by_user = run("report", "--by", "user", "--url", told, "--policy", plans).stdout
    assert ["monthly", "spent", "1"] in [line.split() for line in by_user.splitlines()]


@pytest.mark.parametrize(("by", "keys"), [("feature", ["(none)", "chat"]), ("tag:env", ["(none)"])])
def test_report_by(run: Run, told: str, plans: Path, by: str, keys: list[str]) -> None:
    """By another field there is no talk of prices."""
    lines = run("report", "--by", by, "--url", told, "--policy", plans).stdout.splitlines()
    assert lines[1].split() == [by, "calls", "input", "output", "cost", "billed", "held"]
    assert [line.split()[0] for line in lines[2 : 2 + len(keys)]] == keys


def test_report_of_nothing(run: Run, told: str, policy: Path) -> None:
    words = ("--since", "2020-01-01T00:00:00Z", "--until", "2020-02-01T00:00:00Z")
    shown = run("report", *words, "--url", told, "--policy", policy).stdout.splitlines()
    assert shown[:2] == ["calls reserved from 2020-01-01 00:00 to 2020-02-01 00:00 UTC", "no calls"]


BAD_INPUT = {
    "no such field": ("report --by colour", "colour"),
    "no time": ("report --since yesterday", "--since"),
    "no zone": ("report --until 2026-01-01T00:00", "--until"),
    "the wrong way round": ("report --since 2026-01-02T00:00:00Z --until 2026-01-01T00:00:00Z", "not before"),
    "log of no time": ("log --since yesterday", "--since"),
    "log of nothing": ("log --limit 0", "limit"),
}


@pytest.mark.parametrize(("line", "why"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input(run: Run, told: str, policy: Path, line: str, why: str) -> None:
    result = run(*line.split(" "), CAPGUARD_URL=told, CAPGUARD_POLICY=str(policy))
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr
