"""The demo's processes: what one of them reports ends the demo, with the right exit code."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from capguard.cli.demo.crew import crew
from capguard.cli.demo.traffic import asks
from capguard.errors import BackendUnavailable


def test_a_worker_that_gives_up(tmp_path: Path) -> None:
    """A worker whose ledger does not serve says so at once, nobody waits for it, and no call is made."""
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE theirs (x)")
    with crew(f"sqlite:///{file}", asks(3, 10, seed=1), workers=1) as made:
        with pytest.raises(BackendUnavailable, match=r"a worker gave up: .*another program"):
            made.start()
        assert made.provider_calls() == 0
