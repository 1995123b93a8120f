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


def test_demo_policy(run: Run) -> None:
    """The demo's own policy is accepted without advice."""
    from capguard.cli.demo.traffic import policy_file

    assert json.loads(run("policy", "check", policy_file(), "--json").stdout)["advice"] == []
