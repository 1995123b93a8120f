"""The Redis backend keeps the contract: the whole suite, over real servers, the oldest and the newest there are."""

from __future__ import annotations

import itertools

import pytest

from capguard.backends.base import Backend, Clock
from capguard.backends.redis import RedisBackend
from capguard.testing.conformance import BackendConformance
from tests.backends.servers import servers, shared

_numbers = itertools.count()


@pytest.mark.parametrize("which", servers())
class TestRedis(BackendConformance):
    @pytest.fixture(autouse=True)
    def _server(self, which: str) -> None:
        self.server = shared(which)

    def open(self, clock: Clock) -> Backend:
        self.namespace = f"n{next(_numbers)}"
        return self.reopen(clock)

    def reopen(self, clock: Clock) -> Backend:
        return RedisBackend(self.server.url, namespace=self.namespace, clock=clock, deadline=5)
