"""Eight processes race for the caps of one server (P1, P2, P3, P4), while somebody kills, stops and forgets."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import pytest

from capguard.ledger.commands import Fetch, Look, Verify
from capguard.ledger.outcomes import Found, Held, Meters, Settled, Verified
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import GRACE, TTL, reserve, settle
from capguard.testing.conformance.told import told
from tests.backends.racers import CONTEXT, ESTIMATE, PROCESSES, TASKS
from tests.backends.redis_place import Place
from tests.backends.redis_racers import CAPS, ROOM, Where, meanwhile, race, sampling, write
from tests.backends.servers import Server, servers, shared

ROUNDS = int(os.environ.get("CAPGUARD_SOAK", "1"))
WRITERS = 3
DURABLE = ("--appendonly", "yes", "--appendfsync", "everysec")
LIMITS = (10_000, 205, 900)

_numbers = itertools.count()


def _where(server: Server, deadline: float = 5) -> Where:
    return Where(server.url, f"race{next(_numbers)}", deadline)


def _every_sample_fits(samples: list[Meters]) -> None:
    """Held at once on all three caps, and never beyond a limit: what is settled here is below what was held."""
    assert samples
    for sample in samples:
        assert len(set(sample.states)) == 1, sample
        for state, limit in zip(sample.states, LIMITS, strict=True):
            assert state.settled + state.held - state.overrun <= limit, sample


def _exactly_what_fits(where: Where) -> int:
    """Gives how often a process was left without an answer."""
    with sampling(where) as samples:
        seen = race(where)
    held = [id for each in seen for id in each.held]
    assert len(held) == len(set(held)) == ROOM
    assert sum(each.denied for each in seen) == PROCESSES * TASKS - ROOM
    _every_sample_fits(samples)
    backend = where.open()
    each_cap = f"0/{ROOM * ESTIMATE}/0"
    assert told(backend.execute(Look(CAPS))) == f"meters {each_cap} {each_cap} {each_cap}"
    assert told(backend.execute(Verify())) == f"verified {ROOM} entries, 3 meters, {ROOM} open"
    backend.close()
    return sum(each.unanswered for each in seen)


@pytest.mark.soak
@pytest.mark.parametrize("which", servers())
def test_exactly_what_fits_is_admitted(which: str) -> None:
    """Room for 29 calls of 400: 29 pass, each on all three caps; nobody ever sees more."""
    for _ in range(ROUNDS):
        assert _exactly_what_fits(_where(shared(which))) == 0


@contextmanager
def _forgetting(server: Server) -> Iterator[None]:
    with server.client() as client, meanwhile(client.script_flush, 0.01, most=1000) as flushed:
        yield
    assert flushed


@contextmanager
def _dying(server: Server) -> Iterator[None]:
    def restart() -> None:
        server.kill()
        server.start()

    with meanwhile(restart, 0.1, most=4) as restarted:
        yield
    assert restarted


@contextmanager
def _standing_still(server: Server) -> Iterator[None]:
    frozen: list[bool] = []

    def turn() -> None:
        (server.thaw if frozen else server.freeze)()
        frozen[:] = [] if frozen else [True]

    try:
        with meanwhile(turn, 0.9, most=4) as turned:
            yield
    finally:
        server.thaw()
    assert turned


TROUBLES: dict[str, tuple[Callable[[Server], Any], float]] = {
    "SCRIPT FLUSH": (_forgetting, 5),
    "kill -9 of a server with an append-only file": (_dying, 1),
    "a server that stands still now and then": (_standing_still, 1),
}


@pytest.mark.soak
@pytest.mark.parametrize("which", servers() if ROUNDS > 1 else servers()[-1:])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_exactly_what_fits_is_admitted_whatever_happens(which: str, trouble: str) -> None:
    """Who gets no answer asks again with its id: in the end 29 of 400 calls are held, each of them once."""
    server = Server(which, *DURABLE)
    happens, deadline = TROUBLES[trouble]
    try:
        for _ in range(ROUNDS):
            where = _where(server, deadline)
            with happens(server):
                _exactly_what_fits(where)
    finally:
        server.stop()


class Writer(NamedTuple):
    process: Any
    acknowledged: Connection


def _started(where: Where, name: str) -> Writer:
    here, there = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=write, args=(where, name, there), daemon=True)
    process.start()
    there.close()
    return Writer(process, here)


def _killed_at_random(writers: list[Writer], chance: random.Random) -> list[tuple[str, str]]:
    """Read acknowledgements, and kill each writer after a random number of them, wherever it is then."""
    seen: list[tuple[str, str]] = []
    left = {writer.acknowledged: (writer, chance.randint(1, 40)) for writer in writers}
    while left:
        for ready in wait(list(left)):
            writer, more = left.pop(ready)  # type: ignore[index]
            try:
                seen.append(writer.acknowledged.recv())
            except EOFError:
                writer.process.join()
                writer.acknowledged.close()
                continue
            if more == 1:
                writer.process.kill()
            left[writer.acknowledged] = writer, more - 1
    return seen


@pytest.mark.soak
@pytest.mark.parametrize("which", servers() if ROUNDS > 1 else servers()[:1])
def test_what_was_acknowledged_survives_the_kill(which: str) -> None:
    """Writers are killed wherever they are: what they were told is so, no sample is over, dead holds end."""
    place = Place(shared(which))
    where = Where(place.server.url, place.namespace)
    chance = random.Random(7)
    acknowledged: list[tuple[str, str]] = []
    with sampling(where) as samples:
        for number in range(5 * ROUNDS):
            acknowledged += _killed_at_random([_started(where, f"{number}-{n}") for n in range(WRITERS)], chance)
    _every_sample_fits(samples)
    _is_there(place, acknowledged)
    _holds_of_the_dead_end(place)


def _is_there(place: Place, acknowledged: list[tuple[str, str]]) -> None:
    backend = place.open(ManualClock())
    last = {id: state for state, id in acknowledged if state != "denied"}
    assert len(last) >= ROOM
    for id, state in last.items():
        found = backend.execute(Fetch(id))
        assert isinstance(found, Found), id
        assert found.record.state in (state, "settled"), id
        assert isinstance(backend.execute(settle(id, ESTIMATE - 3)), Settled)
    backend.close()


def _holds_of_the_dead_end(place: Place) -> None:
    """What nobody was told of is whole or not there, and ends after TTL and grace."""
    clock = ManualClock()
    backend = place.open(clock)
    _sound(backend)
    clock.advance(seconds=TTL + GRACE)
    assert isinstance(backend.execute(reserve("a decision", 0)), Held)
    assert told(backend.execute(Look(CAPS))).endswith("/0/0")
    assert _sound(backend).open == 1
    backend.close()


def _sound(backend: Any) -> Verified:
    verified, found = backend.execute(Verify()), backend.execute(Look(CAPS))
    assert isinstance(verified, Verified)
    assert isinstance(found, Meters)
    assert (verified.differences, verified.complete) == ((), True)
    assert len(set(found.states)) == 1
    return verified
