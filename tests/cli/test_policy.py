"""`capguard policy check`: accepted with advice, or every finding at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Run

ADVISED = '[plans.pro]\ncaps = [{ id = "cheaper", limit = 1, action = "downgrade", to = "gpt-4o-mini" }]\n'
REFUSED = '[[caps]]\nid = "a"\nlimit = -1\n[[caps]]\nid = "b"\nlimit = 1\nwindow = "never"\n'


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "policy.toml"


def test_ok(run: Run, policy: Path) -> None:
    assert run("policy", "check", policy).stdout == "ok: 2 plans, 4 caps, 0 users\n"
    told = json.loads(run("policy", "check", policy, "--json").stdout)
    assert told == {"ok": True, "plans": 2, "caps": 4, "users": 0, "advice": []}


def test_advice(run: Run, written: Path) -> None:
    """What is allowed and probably not meant is said, and accepted."""
    written.write_text(ADVISED)
    result = run("policy", "check", written)
    assert result.exit_code == 0
    assert result.stdout.startswith("ok: 1 plans, 1 caps, 0 users\nadvice:\n")
    assert "nothing that blocks" in result.stdout
    assert json.loads(run("policy", "check", written, "--json").stdout)["advice"]


def test_refused(run: Run, written: Path) -> None:
    """Every finding with its place, what was found, what is allowed."""
    written.write_text(REFUSED)
    told = json.loads(run("policy", "check", written, "--json").stdout)
    assert told["ok"] is False
    assert [finding.keys() for finding in told["findings"]] == [{"place", "found", "allowed"}] * 2
    shown = run("policy", "check", written).stdout
    assert shown.startswith("refused:\n")
    for finding in told["findings"]:
        assert all(text in shown for text in finding.values())


PLAN = "[plans.p]\nincluded = { amount = 5 }\ncaps = [{ id = 'c', limit = 9%s }]\n"
WARNED = {
    "an allowance that no cap takes notice of": (PLAN % "", "plans.p.included", "what is included"),
    "grants that no cap takes notice of": (PLAN % ", overage_only = true", "plans.p.included", "of grants"),
    "a downgrade cap with nothing enforcing behind it": (ADVISED, "plans.pro.caps[0] (cheaper)", "nothing that blocks"),
    "unknown models allowed without a cap in tokens or requests": (
        "[[caps]]\nid = 'c'\nlimit = 9\n[failure]\nunknown_model = 'allow'\n",
        "failure.unknown_model",
        "pass every cap in usd",
    ),
}


@pytest.mark.parametrize(("text", "place", "words"), WARNED.values(), ids=WARNED)
def test_warned_of(run: Run, written: Path, text: str, place: str, words: str) -> None:
    """Each of these is accepted, and told with its place."""
    written.write_text(text)
    result = run("policy", "check", written, "--json")
    told = json.loads(result.stdout)["advice"][0]
    assert (result.exit_code, told["place"]) == (0, place)
    assert words in told["found"]


CAP = "[[caps]]\nid = 'c'\nlimit = %s\n"
BAD = {
    "an unknown action": (CAP % 1 + "action = 'stop'\n", "caps[0] (c).action"),
    "an unknown unit": (CAP % 1 + "unit = 'euro'\n", "caps[0] (c).unit"),
    "an unknown window": (CAP % 1 + "window = '1mo'\n", "caps[0] (c).window"),
    "an unknown zone": (CAP % 1 + "window = 'daily@Mars/Base'\n", "caps[0] (c).window"),
    "an unknown field": (CAP % 1 + "colour = 'red'\n", "caps[0] (c).colour"),
    "an unknown field to count by": (CAP % 1 + "per = ['colour']\n", "caps[0] (c).per"),
    "a cap id used twice in one scope": (CAP % 1 + CAP % 2, "caps[0] (c).id"),
    "a downgrade cycle": ("[downgrade]\na = 'b'\nb = 'c'\nc = 'b'\n", "downgrade.a"),
    "a downgrade cycle through a cap": (
        CAP % 1 + "action = 'downgrade'\nto = 'b'\nmatch = { model = 'a' }\n[downgrade]\nb = 'a'\n",
        "caps[0] (c).to",
    ),
    "a downgrade to a dearer model": ("[downgrade]\n'gpt-4o-mini' = 'gpt-4o'\n", "downgrade.gpt-4o-mini"),
    "a downgrade to a dearer model by a cap": (
        CAP % 1 + "action = 'downgrade'\nto = 'gpt-4o'\nmatch = { model = 'gpt-4o-mini' }\n",
        "caps[0] (c).to",
    ),
    "a price per token where a price per million is meant": (
        "[prices.m]\ninput = 0.00000015\noutput = 0.6\n",
        "prices.m.input",
    ),
    "a limit above 2^53-1 nano-dollars": (CAP % "9007199.254740992", "caps[0] (c).limit"),
}


@pytest.mark.parametrize(("text", "place"), BAD.values(), ids=BAD)
def test_refused_for(run: Run, written: Path, text: str, place: str) -> None:
    """Each of these is refused, with its place and a remedy."""
    written.write_text(text)
    result = run("policy", "check", written, "--json")
    told = json.loads(result.stdout)["findings"][0]
    assert (result.exit_code, told["place"]) == (1, place)
    assert told["found"]
    assert told["allowed"]


def test_the_largest_limit(run: Run, written: Path) -> None:
    """2^53-1 nano-dollars is one."""
    written.write_text(CAP % "9007199.254740991")
    assert run("policy", "check", written).exit_code == 0


def test_demo_policy(run: Run) -> None:
    """The demo's own policy is accepted without advice."""
    from capguard.cli.demo.traffic import policy_file

    assert json.loads(run("policy", "check", policy_file(), "--json").stdout)["advice"] == []
