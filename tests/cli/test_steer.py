"""`capguard override`, `grant`, `revoke`, `assign`, `caps`: live for a process that runs, on a real SQLite file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from capguard import CapExceeded, Guard

from .conftest import Run

POLICY = """
default_plan = "free"
[plans.free]
caps = [{ id = "monthly", limit = 1, ignore_grants = true }, { id = "all", limit = 50 }]
[plans.pro]
caps = [{ id = "hard", limit = 9 }]
[[caps]]
id = "calls"
unit = "requests"
window = "lifetime"
limit = 1000
"""
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)


@pytest.fixture
def live(tmp_path: Path, run: Run) -> str:
    """A ledger with a published policy."""
    file, url = tmp_path / "live.toml", f"sqlite:///{tmp_path / 'live.db'}"
    file.write_text(POLICY)
    assert run("policy", "push", file, "--url", url).exit_code == 0
    return url


@pytest.fixture
def app(live: str) -> Iterator[Guard]:
    """A process that was running before anything was steered."""
    with Guard(live) as guard:
        guard.allow(user="ann", cost="0.5")
        yield guard


def limits(guard: Guard, user: str = "ann") -> dict[str, str]:
    return {cap.id: f"{cap.limit:f} {cap.action}" for cap in guard.status(user=user).caps}


def test_override_and_clear(run: Run, live: str, app: Guard) -> None:
    """The next call of the running process has it, and the way back."""
    with pytest.raises(CapExceeded):
        app.reserve(user="ann", cost="2")
    result = run("override", "ann", "monthly", "--limit", "5", "--until", TOMORROW.isoformat(), "--url", live)
    assert result.stdout == "ann: cap monthly is changed (revision 1)\n"
    app.release(app.reserve(user="ann", cost="2"))
    run("override", "ann", "monthly", "--action", "warn", "--url", live)
    assert limits(app)["monthly"] == "1 warn"
    told = json.loads(run("override", "ann", "monthly", "--clear", "--url", live, "--json").stdout)
    assert told == {"user": "ann", "cap": "monthly", "revision": 3}
    assert limits(app)["monthly"] == "1 block"


def test_override_of_another_plans_cap(run: Run, live: str, app: Guard) -> None:
    """It is said that the cap does not hold for this user now."""
    result = run("override", "ann", "hard", "--limit", "5", "--url", live)
    assert "the user's has not" in result.stdout
    assert "hard" not in limits(app)


def test_grant_and_revoke(run: Run, live: str, app: Guard) -> None:
    """A grant says which caps it loosens, pays at the next call, and ends when it is revoked."""
    words = ("--id", "promo", "--feature", "chat", "--feature", "search", "--model", "gpt-4o*", "--priority", "3")
    result = run("grant", "ann", "2.5", *words, "--until", TOMORROW.isoformat(), "--url", live)
    assert result.stdout == "ann: grant promo; it loosens monthly (revision 1)\n"
    (grant,) = app.status(user="ann").grants
    assert (grant.id, grant.remaining, grant.expires_at) == ("promo", grant.amount, TOMORROW)
    assert not app.allow(user="ann", cost="1", feature="other", model="gpt-4o")
    assert not app.allow(user="ann", cost="1", feature="search", model="claude-3-opus")
    assert app.allow(user="ann", cost="1", feature="search", model="gpt-4o")
    assert app.allow(user="ann", cost="1", feature="chat", model="gpt-4o-mini")
    told = json.loads(run("revoke", "ann", "promo", "--url", live, "--json").stdout)
    assert told == {"user": "ann", "id": "promo", "revision": 2}
    assert app.status(user="ann").grants == ()


def test_grant_is_made_once_per_id(run: Run, live: str) -> None:
    """The same command twice is one grant; other terms under its id are refused."""
    for _ in range(2):
        told = json.loads(run("grant", "ann", "2", "--id", "promo", "--url", live, "--json").stdout)
        assert told == {"user": "ann", "id": "promo", "revision": 1, "loosens": ["monthly"]}
    result = run("grant", "ann", "3", "--id", "promo", "--url", live)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "promo" in result.stderr


def test_grant_that_no_cap_takes_notice_of(run: Run, live: str) -> None:
    run("assign", "bob", "pro", "--url", live)
    assert "no cap" in run("grant", "bob", "2", "--url", live).stdout


def test_assign(run: Run, live: str, app: Guard) -> None:
    assert run("assign", "ann", "pro", "--url", live).stdout == "ann: plan pro (revision 1)\n"
    assert app.status(user="ann").plan == "pro"
    told = json.loads(run("assign", "ann", "--clear", "--url", live, "--json").stdout)
    assert told == {"user": "ann", "plan": None, "revision": 2}
    assert app.status(user="ann").plan == "free"


def test_journal_says_who_and_why(run: Run, live: str, app: Guard) -> None:
    """--by and --why stand on the entry of every command."""
    signed = ("--by", "eve", "--why", "a reason", "--url", live)
    run("grant", "ann", "1", "--id", "promo", *signed)
    run("override", "ann", "monthly", "--limit", "2", *signed)
    run("override", "ann", "monthly", "--clear", *signed)
    run("assign", "ann", "pro", *signed)
    run("revoke", "ann", "promo", *signed)
    steered = [entry for entry in app.entries(user="ann") if entry.kind != "book"]
    assert [entry.kind for entry in steered] == ["grant", "override", "clear_override", "assign", "revoke"]
    assert {(entry.body["by"], entry.body["why"]) for entry in steered} == {("eve", "a reason")}


def test_by_a_file(run: Run, ledger: str, policy: Path) -> None:
    """Where processes bring their own policy, the commands take it from --policy; what they say lives in the ledger."""
    run("override", "spent", "monthly", "--limit", "5", "--policy", policy, "--url", ledger)
    with Guard(ledger, policy=policy) as guard:
        assert limits(guard, "spent")["monthly"] == "5 block"


def test_caps(run: Run, live: str) -> None:
    """In policy order, each with where it comes from."""
    run("override", "ann", "monthly", "--limit", "2.5", "--until", TOMORROW.isoformat(), "--url", live)
    told = json.loads(run("caps", "--user", "ann", "--url", live, "--json").stdout)
    assert [(cap["id"], cap["origin"], cap["limit"]) for cap in told] == [
        ("monthly", "override", "2.5"),
        ("all", "plan", "50"),
        ("calls", "global", "1000"),
    ]
    assert datetime.fromisoformat(told[0]["until"]) == TOMORROW
    lines = run("caps", "--plan", "pro", "--url", live).stdout.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["hard", "plan", "$9.00"], ["calls", "global", "1,000"]]


BAD_INPUT = {
    "nothing to change": ("override ann monthly", "--limit, --action"),
    "clear and change": ("override ann monthly --clear --limit 3", "--clear alone"),
    "clear until": ("override ann monthly --clear --until 2030-01-01T00:00:00Z", "--clear alone"),
    "no such cap": ("override ann monthyl --limit 3", "monthyl"),
    "no such action": ("override ann monthly --action shout", "shout"),
    "no number": ("override ann monthly --limit lots", "lots"),
    "no time": ("override ann monthly --limit 3 --until tomorrow", "ISO 8601"),
    "no zone": ("grant ann 3 --until 2030-01-01T00:00", "zone"),
    "nothing granted": ("grant ann 0", "amount"),
    "a negative grant": ("grant ann -- -3", "-3"),
    "no such grant": ("revoke ann nothing", "nothing"),
    "no such plan": ("assign ann ultra", "free, pro"),
    "no plan": ("assign ann", "--clear"),
    "a plan and none": ("assign ann pro --clear", "--clear"),
    "caps of no plan": ("caps --plan ultra", "free, pro"),
}


@pytest.mark.parametrize(("line", "why"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input(run: Run, live: str, line: str, why: str) -> None:
    """Bad input ends with 2, says what is allowed, and changes nothing."""
    result = run(*line.split(" "), CAPGUARD_URL=live)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr
    with Guard(live) as guard:
        assert [entry.kind for entry in guard.entries()] == ["publish"]


NEEDS = ["override ann monthly --limit 2", "grant ann 2", "assign ann pro", "caps", "status ann", "report"]


@pytest.mark.parametrize("line", NEEDS)
def test_no_policy_anywhere(run: Run, ledger: str, line: str) -> None:
    """Neither a file nor a published one: the error names both ways."""
    result = run(*line.split(" "), "--url", ledger)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--policy FILE" in result.stderr
    assert "policy push" in result.stderr


@pytest.mark.parametrize("line", [*NEEDS, "revoke ann promo", "log"])
def test_no_ledger(run: Run, tmp_path: Path, line: str) -> None:
    """A mistyped path is never made."""
    result = run(*line.split(" "), "--url", f"sqlite:///{tmp_path / 'typo.db'}")
    assert result.exit_code == 2
    assert "no such ledger" in result.stderr
    assert list(tmp_path.iterdir()) == []
