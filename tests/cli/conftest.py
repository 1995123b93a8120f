"""A real ledger on SQLite with a few calls in it, and the command line on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from capguard import CapExceeded, Guard
from capguard.cli.app import app

POLICY = """
default_plan = "free"

[plans.free]
caps = [{ id = "monthly", limit = 1 }]

[plans.pro]
caps = [{ id = "notice", limit = 1, action = "warn" }, { id = "hard", limit = 9 }]

[[caps]]
id = "calls"
unit = "requests"
window = "lifetime"
limit = 1_000
"""

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CAPGUARD_URL", "CAPGUARD_POLICY", "CAPGUARD_NAMESPACE", "CAPGUARD_DISABLED"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "capguard.toml"
    file.write_text(POLICY)
    return file


@pytest.fixture
def ledger(tmp_path: Path, policy: Path) -> str:
    """Seven entries: `spent` has used up its month, `rich` two dollars of nine, `busy` holds a quarter."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Guard(url, policy=policy) as guard:
        guard.settle(guard.reserve(user="spent", cost="1", id="one"), cost="1")
        with pytest.raises(CapExceeded):
            guard.reserve(user="spent", cost="0.01")
        guard.allow(user="rich", plan="pro", cost="2", id="two")
        guard.release(guard.reserve(user="rich", plan="pro", cost="3", id="three"))
        guard.reserve(user="busy", cost="0.25", id="four")
        guard.reserve(user="[red]odd", cost="0.125", id="five")
    return url


@pytest.fixture
def run() -> Run:
    runner = CliRunner()

    def invoke(*words: object, **env: str) -> Result:
        return runner.invoke(app, [str(word) for word in words], env=env, catch_exceptions=False)

    return invoke
