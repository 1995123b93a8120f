"""The ledger in SQLite keeps the contract: the table of cases, the machine, the races within one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from capguard.backends.base import Clock
from capguard.backends.sqlite import SQLiteBackend
from capguard.testing.conformance import BackendConformance


class TestSQLite(BackendConformance):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path
        self.opened = 0

    def open(self, clock: Clock) -> SQLiteBackend:
        self.opened += 1
        return SQLiteBackend(self.directory / f"{self.opened}.db", clock, timeout=30)

    def reopen(self, clock: Clock) -> SQLiteBackend:
        return SQLiteBackend(self.directory / f"{self.opened}.db", clock, timeout=30)
