"""P5, P6, P7: whatever happens to the store, nothing waits long, nothing is lost and nothing is booked twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from capguard import BackendUnavailable, CapExceeded, Guard
from capguard.testing.proxy import Proxy
from tests.backends.servers import Server, servers
from tests.resilience.faults import REDIS, SQLITE, Place
from tests.resilience.kit import meter, policy, waiting

LONG_S = 5.0
"""Far more than any deadline here, far less than what a client's own patience comes to (58 s measured)."""


@pytest.fixture
def place(own: Server) -> Iterator[Place]:
    with Proxy(own.port) as proxy:
        yield Place(own, proxy)


class Sync:
    """The verbs as they are."""

    def __init__(self, guard: Guard):
        self.reserve, self.settle, self.release = guard.reserve, guard.settle, guard.release
        self.check, self.allow = guard.check, guard.allow


class Async:
    """The verbs with an `a`, each in an event loop of its own."""

    def __init__(self, guard: Guard):
        for verb in ("reserve", "settle", "release", "check", "allow"):
            setattr(self, verb, self._in_a_loop(getattr(guard, f"a{verb}")))

    @staticmethod
    def _in_a_loop(verb: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def run(*args: Any, **fields: Any) -> Any:
            return await verb(*args, **fields)

        return lambda *args, **fields: asyncio.run(run(*args, **fields))


def lived_through(guard: Guard, verbs: Any, fault: AbstractContextManager[None]) -> None:
    """One call from before ends, one is refused, one is let through, as its cap says."""
    mine, yours = {"user": "u1"}, {"user": "u2"}
    before = verbs.reserve(**mine, cost="0.5")
    dropped = verbs.reserve(**mine, cost="0.5")
    with fault:
        began = time.monotonic()
        settlement = verbs.settle(before, cost="0.4")
        assert (settlement.cost, settlement.durable) == (Decimal("0.4"), True)
        verbs.release(dropped)
        through = verbs.reserve(**mine, cost="0.5")
        with pytest.raises(BackendUnavailable) as refused:
            verbs.reserve(**mine, cost="60")
        assert not isinstance(refused.value, CapExceeded)
        with pytest.raises(BackendUnavailable):
            verbs.reserve(**yours, cost="0.5", feature="closed")
        assert time.monotonic() - began < LONG_S * 5
        verbs.settle(through, cost="0.3")
    assert guard.flush(30)
    assert meter(guard) == (Decimal("0.7"), 0, 0)
    assert meter(guard, user="u2") == (0, 0, 0)
    assert waiting(guard) == 0
    assert [entry.kind for entry in guard.entries()].count("settle") == 2
    assert guard.verify()


POLICY = policy(
    {"id": "c", "limit": 100},
    {"id": "strict", "limit": 100, "match": {"feature": "closed"}, "on_backend_error": "closed"},
)


@pytest.mark.parametrize("verbs", [Sync, Async])
@pytest.mark.parametrize("name", REDIS)
def test_redis(place: Place, name: str, verbs: Any) -> None:
    with Guard(place.url, policy=POLICY) as guard:
        lived_through(guard, verbs(guard), REDIS[name](place))


@pytest.mark.parametrize("verbs", [Sync, Async])
@pytest.mark.parametrize("name", SQLITE)
def test_sqlite(tmp_path: Path, name: str, verbs: Any) -> None:
    path = tmp_path / "ledger.db"
    with Guard(f"sqlite:///{path}", policy=POLICY) as guard:
        lived_through(guard, verbs(guard), SQLITE[name](path))


@pytest.mark.parametrize("own", servers(), indirect=True)
@pytest.mark.parametrize("verbs", [Sync, Async])
def test_a_full_redis(place: Place, verbs: Any) -> None:
    """OOM: what ends a call is accepted where the server allows it; a new call is none that the store knows."""
    with Guard(place.url, policy=policy(backend="closed")) as guard:
        asked = verbs(guard)
        before = asked.reserve(user="u1", cost="0.5")
        with place.server.client() as client:
            client.config_set("maxmemory", "100kb")
            settlement = asked.settle(before, cost="0.4")
            assert ("kept" in settlement.flags) == (place.server.version < 7)
            with pytest.raises(BackendUnavailable):
                asked.reserve(user="u1", cost="0.5")
            client.config_set("maxmemory", "0")
        assert guard.flush(30)
        assert meter(guard) == (Decimal("0.4"), 0, 0)


def test_a_reserve_that_lands_long_after_its_time_out(place: Place) -> None:
    """The server stood still, and carries it out when it goes on: the release that follows drops it (rule 12)."""
    with Guard(place.url, policy=policy(backend="closed", deadline="0.3")) as guard:
        guard.allow(user="u1", amount=0)
        place.server.freeze()
        with pytest.raises(BackendUnavailable):
            guard.reserve(user="u1", cost="0.5")
        place.server.thaw()
        assert guard.flush(30)
        assert meter(guard) == (0, 0, 0)
        assert guard.verify()


def test_the_breaker_spares_a_store_that_is_away(place: Place) -> None:
    """After a few failures nobody waits any more: hundreds of calls take less than one deadline each would."""
    with Guard(place.url, policy=policy(backend="closed", deadline="0.3")) as guard:
        guard.allow(user="u1", amount=0)
        place.proxy.fail("half-open", times=1_000_000)
        began = time.monotonic()
        for _ in range(500):
            with pytest.raises(BackendUnavailable):
                guard.reserve(user="u1", cost="0.5")
        assert time.monotonic() - began < 500 * 0.3 / 5
        assert place.proxy.happened < 30
        place.proxy.heal()


def test_a_store_that_comes_and_goes(place: Place) -> None:
    """Whatever was settled while it flapped is booked once."""
    with Guard(place.url, policy=policy(offline_share=1, offline_allowance=100)) as guard:
        total = Decimal(0)
        for number in range(12):
            with REDIS["refused"](place) if number % 3 == 1 else nullcontext():
                for _ in range(3):
                    with guard.call(user="u1", cost="0.1") as call:
                        call.settle(cost="0.1")
                    total += Decimal("0.1")
        assert guard.flush(60)
        assert meter(guard) == (total, 0, 0)
        assert guard.verify()


@pytest.mark.parametrize("verbs", [Sync, Async])
def test_state_that_was_lost(place: Place, verbs: Any) -> None:
    """P8, P5: the store was emptied. A settle of a call that it has forgotten waits, and is booked once somebody has
    accepted the loss: its cost is not lost with it."""
    with Guard(place.url, policy=policy()) as guard:
        asked = verbs(guard)
        reservation = asked.reserve(user="u1", cost="0.5")
        with place.server.client() as client:
            client.flushall()
        assert "kept" in asked.settle(reservation, cost="0.4").flags
        assert not guard.flush(0.5)
        guard._backend.backend.accept_loss()  # type: ignore[attr-defined]
        assert guard.flush(30)
        assert meter(guard) == (Decimal("0.4"), 0, 0)
        (settle,) = [entry for entry in guard.entries() if entry.kind == "settle"]
        assert settle.body["facts"]["cause"] == "lost"
        assert guard.verify()
