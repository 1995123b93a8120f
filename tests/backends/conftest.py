"""Redis servers for the tests of backends: shared, or of one's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends.redis_place import OPEN, Place, teach
from tests.backends.servers import Server, servers, shared


@pytest.fixture(autouse=True)
def everything_is_closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture(params=servers())
def server(request: pytest.FixtureRequest) -> Server:
    """A server that other tests use too."""
    return shared(request.param)


@pytest.fixture(params=servers())
def own(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server to be broken."""
    server = Server(request.param)
    yield server
    server.stop()


@pytest.fixture
def place(server: Server) -> Place:
    teach(server)
    return Place(server)
