"""Redis servers for the tests of backends: shared, or of one's own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.backends.redis_place import OPEN, Place, teach
from tests.backends.servers import Server, servers, shared

ONCE_EACH = {("wheel", "long"): "sync", ("path", "plain"): "async"}
"""With two servers, the contract is played on each in one way and one mode; `make soak` plays all of it on both."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "CAPGUARD_SOAK" in os.environ or len(servers()) < 2:
        return
    left = [item for item in items if _is_twice(item)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in set(left)]


def _is_twice(item: pytest.Item) -> bool:
    if item.path.name != "test_redis.py" or not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return False
    params = item.callspec.params
    mode = ONCE_EACH.get((params["which"], params["way"]))
    return mode is None or params.get("mode", mode) != mode


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
