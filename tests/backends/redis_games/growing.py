"""A store grows: bucket by bucket, while others do the same, and every row is found."""

from __future__ import annotations

import asyncio
from unittest.mock import patch

from capguard.backends.redis import RedisBackend
from capguard.ledger.commands import (
    Look,
    Verify,
)
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import cap, release, reserve, settle
from capguard.testing.conformance.paying import backfill, publish
from capguard.testing.conformance.told import told
from capguard.testing.proxy import Proxy
from tests.backends.redis_games.game import game
from tests.backends.redis_games.meddling import Meddling
from tests.backends.redis_place import EVER, PER_BUCKET, Place, legs_of, say


@game
def growing(place: Place) -> None:
    """Two processes in turn fill 400 rows: a bucket for each 56 of them, every row in the one that is asked for it."""
    backends = [place.open(ManualClock()), place.open(ManualClock())]
    for user in range(100):
        say(backends[user % 2], (reserve(f"r{user}", user, *legs_of(user)), "held"))
        say(backends[user // 2 % 2], (settle(f"r{user}", user), f"settled {user}"))
    for backend in backends:
        for user in range(100):
            say(backend, (Look(legs_of(user)), f"meters {' '.join([f'{user}/0/0'] * 3)}"))
            say(backend, (settle(f"r{user}", user), f"settled {user}, again"))
        say(backend, (Verify(), "verified 200 entries, 300 meters, 0 open"))
    sizes = [len(rows) for rows in place.buckets()]
    assert (sum(sizes), place.meta("rows"), len(sizes)) == (400, 400, -(-400 // PER_BUCKET))
    assert max(sizes) <= 2 * PER_BUCKET + PER_BUCKET // 2
    assert place.raw.exists(place.key(f"b:{len(sizes)}")) == 0
    _in_their_buckets(place)


def _in_their_buckets(place: Place) -> None:
    """No row is in two buckets: each bucket's rows share the bits that chose it."""
    seen = [row for rows in place.buckets() for row in rows]
    assert len(seen) == len(set(seen))


@game
def settles_grow_too(place: Place) -> None:
    """Calls that are held on one meter leave one row, and an id each when they are settled: these ask for buckets."""
    backend = place.open(ManualClock())
    for number in range(200):
        say(backend, (reserve(f"r{number}", 0, EVER), "held"))
    for number in range(200):
        say(backend, (settle(f"r{number}", 0), "settled 0"))
    assert place.meta("size") == -(-201 // PER_BUCKET)


@game
def two_grow_at_once(place: Place) -> None:
    """Another process makes the next bucket while this one is about to, and more rows: no bucket is left out."""
    other = place.open(ManualClock())
    meddling = Meddling(lambda: _fills(other))
    _grows_meanwhile(place, place.open(meddling), meddling)


@game
def two_threads_grow_at_once(place: Place) -> None:
    """The same within one process, between two threads that share what they know of the store."""
    meddling = Meddling(lambda: _fills(backends[0]))
    backends = [place.open(meddling)]
    _grows_meanwhile(place, backends[0], meddling)


def _fills(backend: RedisBackend) -> None:
    """One bucket more, and so many rows that there should be another one, which it does not come to make."""
    say(backend, (reserve("more", 1, *legs_of(99)), "held"))
    with patch.object(backend._ledger._store, "grow", lambda _spare: iter(())):
        for number in range(PER_BUCKET):
            say(backend, (release(f"t{number}"), "nothing to release"))


def _grows_meanwhile(place: Place, backend: RedisBackend, meddling: Meddling) -> None:
    full = PER_BUCKET // 3
    for user in range(full):
        say(backend, (reserve(f"r{user}", 1, *legs_of(user)), "held"))
    meddling.at(2)  # the reserve is the first step, the growing the second
    say(backend, (reserve("last", 1, *legs_of(98)), "held"))
    assert meddling.done
    assert place.meta("size") == len(list(place.buckets())) == 3
    for each in (backend, place.open(ManualClock())):
        for number in (*range(full), 98, 99):
            say(each, (Look(legs_of(number)), "meters 0/1/0 0/1/0 0/1/0"))
    _in_their_buckets(place)


@game
def a_task_that_hears_late_of_missing_room(place: Place) -> None:
    """Its reply, delayed, says that there are too few buckets; meanwhile another task has made the missing one."""
    with Proxy(place.server.port) as proxy:
        backend = place.open(ManualClock(), port=proxy.port)

        async def both() -> None:
            for user in range(PER_BUCKET // 3):
                await backend.aexecute(reserve(f"r{user}", 1, *legs_of(user)))
            proxy.fail("delay", on=b"late", seconds=0.1)
            late = asyncio.ensure_future(backend.aexecute(reserve("late", 1, *legs_of(98))))
            while not proxy.happened:
                await asyncio.sleep(0.001)
            await backend.aexecute(reserve("r99", 1, *legs_of(99)))
            await late

        asyncio.run(both())
        assert (place.meta("rows"), place.meta("size")) == (60, 2)


@game
def a_fill_grows_too(place: Place) -> None:
    """A policy that fills the meters of a new cap asks for as many buckets as they need."""
    backend = place.open(ManualClock())
    legs = {cap("new", who=f"u{number}"): 0 for number in range(300)}
    assert told(backend.execute(publish("ours", fill=backfill(legs, last=0)))) == "policy 1 ours"
    assert (place.meta("rows"), place.meta("size")) == (300, -(-300 // PER_BUCKET))
    _in_their_buckets(place)
