"""The Redis backend keeps the contract: the whole suite, over real servers, the oldest and the newest there are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from capguard.backends.base import Backend, Clock
from capguard.backends.redis import RedisBackend, scripts
from capguard.backends.redis.linking import linked
from capguard.testing.conformance import BackendConformance
from tests.backends.redis_place import the_long_way
from tests.backends.servers import servers, shared

_numbers = itertools.count()


@pytest.mark.parametrize("which", servers())
@pytest.mark.parametrize("way", ["plain", "long"])
class TestRedis(BackendConformance):
    """Also where no call takes the plain way: both ways give the same answers."""

    @pytest.fixture(autouse=True)
    def _server(self, which: str, way: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        self.server = shared(which)
        if way == "long":
            monkeypatch.setattr(scripts, "linked", lambda source: linked(the_long_way(source)))
        scripts.script.cache_clear()
        yield
        scripts.script.cache_clear()

    def open(self, clock: Clock) -> Backend:
        self.namespace = f"n{next(_numbers)}"
        return self.reopen(clock)

    def reopen(self, clock: Clock) -> Backend:
        return RedisBackend(self.server.url, namespace=self.namespace, clock=clock, deadline=5)
