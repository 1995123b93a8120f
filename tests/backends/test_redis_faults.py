"""A network and a server that fail: what was sent counts once or not at all, and who is not answered is told so."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from capguard.errors import BackendUnavailable
from capguard.ledger.commands import Command, Look, Publish, Verify
from capguard.ledger.outcomes import Held
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import cap, extend, model, release, reserve, reserve_one_of, settle
from capguard.testing.conformance.driving import MODES, Driver, driven
from capguard.testing.conformance.paying import give
from capguard.testing.conformance.told import told
from capguard.testing.proxy import Proxy
from tests.backends.redis_place import HELD, TEN, Place, refuses, say, teach
from tests.backends.servers import Server, servers

SHORT = 0.4
"""Seconds that a step waits where a reply is not to come: as long as an idle machine needs many times over."""


@contextmanager
def behind(place: Place, proxy: Proxy, mode: str, deadline: float = SHORT) -> Iterator[Driver]:
    backend = place.open(ManualClock(), deadline=deadline, port=proxy.port)
    with driven(backend, mode) as execute:
        yield execute


LOST: tuple[tuple[Command, bytes, str, str], ...] = (
    (reserve("new", 5, TEN), b"new", "held, again", "meters 0/9/0"),
    (reserve("new", 5, TEN, book=True), b"new", "settled, again", "meters 5/4/0"),
    (reserve("new", 7, TEN), b"new", "denied ten:in_flight", "meters 0/4/0"),
    (settle("r1", 3), b"r1", "settled 3, again", "meters 3/0/0"),
    (release("r1"), b"r1", "nothing to release", "meters 0/0/0"),
    (release("new"), b"new", "nothing to release", "meters 0/4/0"),
    (extend("r1", ttl=90, amount=6), b"r1", "extended to 6 until 90", "meters 0/6/0"),
    (give("credit", 5), b"credit", "profile 1, grants credit, again", "meters 0/4/0"),
    (Publish({"default_plan": "pro"}, None), b"pro", "policy 1 pro, again", "meters 0/4/0"),
    (Look((TEN,)), b"EVALSHA", "meters 0/4/0", "meters 0/4/0"),
)
ENTRIES = (2, 2, 1, 2, 2, 1, 2, 2, 2, 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("lost", "entries"), list(zip(LOST, ENTRIES, strict=True)))
def test_a_lost_reply_is_asked_for_again_and_counts_once(
    place: Place, lost: tuple[Command, bytes, str, str], entries: int, mode: str
) -> None:
    """The connection is reset after the server did what it was told; the step bears its id, and is sent once more."""
    command, on, answer, meters = lost
    with Proxy(place.server.port) as proxy, behind(place, proxy, mode, deadline=5) as execute:
        assert told(execute(HELD[0])) == "held"
        proxy.fail("reset", on=on)
        assert told(execute(command)) == answer
        assert proxy.happened == 1
        assert told(execute(Look((TEN,)))) == meters
        assert told(execute(Verify())).startswith(f"verified {entries} entries")


@pytest.mark.parametrize("fault", ["black hole", "half-open"])
def test_a_reply_that_never_comes_is_asked_for_again(place: Place, fault: Any) -> None:
    """Whether the reply was swallowed or the command: it is sent again on another connection, and counts once."""
    with Proxy(place.server.port) as proxy, behind(place, proxy, "sync") as execute:
        execute(HELD[0])
        proxy.fail(fault, on=b"new")
        assert isinstance(execute(reserve("new", 5, TEN)), Held)
        assert told(execute(Look((TEN,)))) == "meters 0/9/0"


def test_a_step_takes_no_longer_than_its_deadline(place: Place) -> None:
    """P6: both tries together. The one test with a watch: the bound lies midway between one deadline and two."""
    with Proxy(place.server.port) as proxy, behind(place, proxy, "sync", deadline=2) as execute:
        execute(HELD[0])
        proxy.fail("black hole", on=b"r1", times=100)
        began = time.monotonic()
        with pytest.raises(BackendUnavailable):
            execute(settle("r1", 3))
        assert time.monotonic() - began < 3


def test_what_was_decided_is_told_again(place: Place) -> None:
    """The model and the output limit that a lost reply told are those of the second reply."""
    cheaper = cap("cheap", 5, "downgrade", step=1)
    call = reserve_one_of("new", model("big", 6, cheaper), model("small", 2, cap("cheap", 5, "downgrade")))
    with Proxy(place.server.port) as proxy, behind(place, proxy, "sync", deadline=5) as execute:
        execute(Verify())
        proxy.fail("reset", on=b"new")
        assert told(execute(call)) == "held small, again"


@pytest.mark.parametrize("mode", MODES)
def test_all_replies_are_lost(place: Place, mode: str) -> None:
    """Nobody knows whether it counts: unavailable; the same id afterwards counts once."""
    with Proxy(place.server.port) as proxy, behind(place, proxy, mode, deadline=5) as execute:
        proxy.fail("reset", on=b"EVAL", times=100)
        with pytest.raises(BackendUnavailable):
            execute(HELD[0])
        proxy.heal()
        assert isinstance(execute(HELD[0]), Held)
        proxy.fail("reset", on=b"r1", times=100)
        with pytest.raises(BackendUnavailable):
            execute(settle("r1", 3))
        assert proxy.happened == 2
        proxy.heal()
        assert told(execute(settle("r1", 3))) == "settled 3, again"
        assert told(execute(Look((TEN,)))) == "meters 3/0/0"
        assert told(execute(Verify())) == "verified 2 entries, 1 meters, 0 open"


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_is_away_is_unavailable_and_comes_back(place: Place, mode: str) -> None:
    """Connections are refused: so is the call, at once. The next one finds the server again."""
    with Proxy(place.server.port) as proxy, behind(place, proxy, mode, deadline=5) as execute:
        execute(HELD[0])
        proxy.refuse()
        with pytest.raises(BackendUnavailable):
            execute(reserve("r2", 4, TEN))
        proxy.accept()
        assert told(execute(reserve("r2", 4, TEN))) == "held"
        assert told(execute(Look((TEN,)))) == "meters 0/8/0"


def test_a_late_reply_is_waited_for(place: Place) -> None:
    """A delay below the deadline is a delay."""
    with Proxy(place.server.port) as proxy, behind(place, proxy, "sync", deadline=5) as execute:
        execute(HELD[0])
        proxy.fail("delay", on=b"r1", seconds=0.05)
        assert told(execute(settle("r1", 3))) == "settled 3"


@pytest.mark.parametrize("mode", MODES)
def test_a_reply_that_comes_after_all_is_nobody_elses(place: Place, mode: str) -> None:
    """The connection whose reply did not come in time is not used again: the next command gets its own reply."""
    with Proxy(place.server.port) as proxy, behind(place, proxy, mode) as execute:
        execute(HELD[0])
        proxy.fail("delay", on=b"r1", times=2, seconds=SHORT * 1.5)
        with pytest.raises(BackendUnavailable):
            execute(settle("r1", 3))
        for number in range(20):
            assert told(execute(reserve(f"n{number}", 0))) == "held"


# The server stands still, is full, follows another, begins


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_stands_still(mode: str) -> None:
    """Unavailable after the deadline; when it goes on it carries out what it was sent, and the same id counts once."""
    own = Server(servers()[-1])
    teach(own)
    place = Place(own)
    with driven(place.open(ManualClock(), deadline=SHORT), mode) as execute:
        for command, again in ((HELD[0], "held, again"), (settle("r1", 3), "settled 3, again")):
            execute(Verify())
            own.freeze()
            with pytest.raises(BackendUnavailable):
                execute(command)
            own.thaw()
            own.wait()
            assert told(execute(command)) == again
        assert told(execute(Look((TEN,)))) == "meters 3/0/0"
        assert told(execute(Verify())) == "verified 2 entries, 1 meters, 0 open"
    own.stop()


def _fill(place: Place) -> None:
    place.raw.set("ballast", os.urandom(2_000_000))
    place.raw.config_set("maxmemory", "1mb")


def test_a_full_server_takes_no_reserve(own: Server) -> None:
    """Out of memory: unavailable, not refused; with room again everything goes on."""
    place = Place(own)
    backend = place.open(ManualClock())
    say(backend, HELD)
    _fill(place)
    before = place.shows()
    refuses(backend, reserve("new", 1, TEN))
    assert place.shows() == before
    place.raw.config_set("maxmemory", "0")
    say(backend, (reserve("new", 1, TEN), "held"), (Look((TEN,)), "meters 0/5/0"))


def test_a_full_server_takes_what_ends_a_call(own: Server) -> None:
    """From Redis 7 on what is spent is booked even then."""
    place = Place(own)
    backend = place.open(ManualClock())
    say(backend, HELD, (reserve("r2", 4, TEN), "held"))
    _fill(place)
    if own.version < 7:
        refuses(backend, settle("r1", 3), release("r2"))
        place.raw.config_set("maxmemory", "0")
    say(backend, (settle("r1", 3), "settled 3"), (release("r2"), "released"), (Look((TEN,)), "meters 3/0/0"))
    say(backend, (Verify(), "verified 4 entries, 1 meters, 0 open"))


def test_a_server_that_follows_another_takes_nothing(own: Server) -> None:
    """READONLY is no refusal: unavailable; when it is the first again everything goes on."""
    place = Place(own)
    backend = place.open(ManualClock())
    say(backend, HELD)
    before = place.shows()
    place.raw.execute_command("REPLICAOF", "127.0.0.1", "1")
    refuses(backend, reserve("new", 1, TEN), settle("r1", 3), release("r1"))
    assert place.shows() == before
    place.raw.execute_command("REPLICAOF", "NO", "ONE")
    say(backend, (settle("r1", 3), "settled 3"), (Look((TEN,)), "meters 3/0/0"))


def test_a_server_that_is_still_loading(own: Server) -> None:
    """LOADING: unavailable, and never an empty ledger, for who knew it and for who comes anew; then it is all there."""
    place = Place(own)
    backend = place.open(ManualClock())
    say(backend, HELD)
    place.raw.config_set("rdbcompression", "no")
    for number in range(800):  # it answers after every 2 MB that it has loaded
        place.raw.set(f"ballast {number}", "x" * 100_000)
    place.raw.save()
    own.kill()
    own.start("--key-load-delay", "8000", answers=False)  # in microseconds
    own.wait_for_a_connection()
    refuses(backend, Look((TEN,)))
    refuses(place.open(ManualClock()), reserve("new", 1, TEN))
    own.kill()
    own.start()
    say(backend, (reserve("new", 1, TEN), "held"), (Look((TEN,)), "meters 0/5/0"))


def test_a_server_with_too_many_clients(own: Server) -> None:
    """Unavailable; with room for one more it goes on."""
    place = Place(own)
    backend = place.open(ManualClock())
    place.raw.config_set("maxclients", 1)  # the one that says so
    refuses(backend, HELD[0])
    place.raw.config_set("maxclients", 100)
    say(backend, HELD)
    backend.close()
