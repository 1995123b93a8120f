"""A ledger behind a door that can be shut, on real servers and in a file; everything kept in a folder of the test's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.servers import Server, servers, shared
from tests.promises.conftest import Watched, watched

__all__ = ["Watched", "watched"]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's processes keep what their backend has not acknowledged."""
    folder = tmp_path / "state"
    monkeypatch.setenv("CAPGUARD_STATE", str(folder))
    return folder


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A redis-server to be broken: the newest that is there, or which the test names."""
    server = Server(getattr(request, "param", servers()[-1]), "--appendonly", "yes")
    yield server
    server.stop()


@pytest.fixture
def server() -> Server:
    """A redis-server that other tests use too."""
    return shared(servers()[0])
