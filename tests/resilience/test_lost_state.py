"""P8: what a host had seen of a store, its later processes know: one that is behind it has lost state."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from capguard import BackendUnavailable, Guard
from capguard.cli.app import app
from tests.backends.servers import Server
from tests.resilience.kit import meter, policy

CLOSED = policy(backend="closed", deadline=5)


def use(url: str, amount: object = 1) -> None:
    with Guard(url, policy=CLOSED) as guard:
        guard.allow(user="u1", amount=amount)


def refused(url: str) -> None:
    with Guard(url, policy=CLOSED) as guard, pytest.raises(BackendUnavailable, match="lost"):
        guard.reserve(user="u1", cost=1)


def recover(url: str) -> None:
    said = CliRunner().invoke(app, ["recover", "--accept-loss", "--url", url])
    assert said.exit_code == 0, said.output


def test_a_server_that_was_emptied_between_two_processes(own: Server) -> None:
    use(own.url)
    with own.client() as client:
        client.flushall()
    refused(own.url)
    recover(own.url)
    use(own.url)


def test_a_server_that_was_restored_from_an_old_copy(own: Server) -> None:
    use(own.url)
    with own.client() as client:
        dump = {key: client.dump(key) for key in client.keys("*")}
        use(own.url, 5)
        client.flushall()
        for key, value in dump.items():
            client.restore(key, 0, value)
    refused(own.url)
    recover(own.url)
    with Guard(own.url, policy=CLOSED) as guard:
        assert meter(guard)[0] == 1


def test_a_file_that_was_replaced_by_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    url = f"sqlite:///{path}"
    use(url)
    shutil.copy(path, tmp_path / "old.db")
    use(url, 5)
    path.unlink()
    shutil.copy(tmp_path / "old.db", path)
    refused(url)
    recover(url)
    with Guard(url, policy=CLOSED) as guard:
        assert meter(guard)[0] == Decimal(1)


def test_a_guard_that_nobody_used_leaves_no_file(tmp_path: Path) -> None:
    """Neither a ledger nor its lock: what was seen is asked of a file that was opened only."""
    with Guard(f"sqlite:///{tmp_path}/never.db", policy=CLOSED):
        pass
    assert list(tmp_path.glob("never*")) == []


def test_closing_in_front_of_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """What was seen is not known any more: the Guard closes all the same."""
    path = tmp_path / "ledger.db"
    with Guard(f"sqlite:///{path}", policy=CLOSED) as guard:
        guard.allow(user="u1", amount=1)
        with closing(sqlite3.connect(path)) as other:
            other.execute("DROP TABLE entry")
            other.commit()


def test_a_file_that_is_not_there_begins_anew(tmp_path: Path) -> None:
    """As everybody expects who has deleted it."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    use(url, 5)
    (tmp_path / "ledger.db").unlink()
    with Guard(url, policy=CLOSED) as guard:
        guard.allow(user="u1", amount=1)
        assert meter(guard)[0] == 1
