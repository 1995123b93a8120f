"""20,000 users with three caps each: as many buckets as they need, each of them small, and every row is found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from capguard.ledger.caps import Leg
from capguard.ledger.commands import Look, Reserve, Verify
from capguard.ledger.outcomes import Held, Meters, Verified
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import reserve
from tests.backends.redis_place import PER_BUCKET, Place, legs_of
from tests.backends.servers import Server, servers

USERS = 20_000
TOGETHER = 20
"""Users who share a call, so that there are as many meters in a twentieth of the time."""
CALLS = USERS // TOGETHER
ROWS = 3 * USERS + CALLS
"""Meters, and the ids of the calls."""


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    server = Server(servers()[-1])
    place = Place(server)
    backend = place.open(ManualClock())
    for number in range(CALLS):
        assert isinstance(backend.execute(_call(number)), Held)
    backend.close()
    yield place
    server.stop()


def _call(number: int) -> Reserve:
    return reserve(f"r{number}", 1 + number % 9, *_legs_of(number), book=True)


def _legs_of(number: int) -> tuple[Leg, ...]:
    return tuple(leg for user in range(number * TOGETHER, (number + 1) * TOGETHER) for leg in legs_of(user))


def test_there_is_a_bucket_for_every_56_rows(place: Place) -> None:
    sizes = [len(rows) for rows in place.buckets()]
    assert sum(sizes) == place.meta("rows") == ROWS
    assert len(sizes) == place.meta("size") == -(-ROWS // PER_BUCKET)
    assert max(sizes) < 3 * PER_BUCKET


def test_every_bucket_is_stored_in_one_piece(place: Place) -> None:
    """A hash of few fields needs no table: that is what the buckets are for."""
    encodings = {place.raw.object("encoding", place.key(f"b:{number}")) for number in range(place.meta("size"))}
    assert encodings <= {b"listpack", b"ziplist"}


def test_every_row_is_found_again(place: Place) -> None:
    """By a process that comes anew, and that knows of the buckets only what the store says."""
    backend = place.open(ManualClock())
    for number in range(CALLS):
        found = backend.execute(Look(_legs_of(number)))
        assert isinstance(found, Meters)
        assert {state.settled for state in found.states} == {1 + number % 9}
    for number in range(0, CALLS, 10):
        outcome = backend.execute(_call(number))
        assert isinstance(outcome, Held)
        assert outcome.replayed
    backend.close()


def test_the_books_are_right(place: Place) -> None:
    backend = place.open(ManualClock())
    verified = backend.execute(Verify())
    assert isinstance(verified, Verified)
    assert (verified.differences, verified.complete) == ((), True)
    assert (verified.entries, verified.meters, verified.open) == (CALLS, 3 * USERS, 0)
    backend.close()
