"""State that is lost, as it is lost in practice: who had seen more is told so, and nothing is taken for 0."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from capguard.errors import BackendUnavailable
from capguard.ledger.commands import Command, Fetch, Look, PolicyInForce, Profile, Publish, Refusals, Verify
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import extend, release, reserve, settle
from capguard.testing.conformance.driving import MODES, driven
from capguard.testing.conformance.paying import give
from tests.backends.redis_place import HELD, TEN, Place, refuses, say
from tests.backends.servers import Server


def _flushed(server: Server) -> None:
    with server.client() as client:
        client.flushall()


def _restarted_empty(server: Server) -> None:
    server.kill()
    server.start()


def _restored(server: Server) -> None:
    server.kill()
    server.start()


LOSSES: dict[str, tuple[bool, Callable[[Server], None]]] = {
    "FLUSHALL": (False, _flushed),
    "a restart with nothing kept": (False, _restarted_empty),
    "a restart from an older snapshot": (True, _restored),
}
EVERYTHING: tuple[Command, ...] = (
    reserve("new", 1, TEN),
    reserve("r1", 4, TEN),
    settle("r1", 3),
    release("r1"),
    extend("r1", ttl=90),
    Look((TEN,)),
    Fetch("r1"),
    Profile("u1"),
    PolicyInForce(),
    Verify(),
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_noticed_by_who_had_seen_more(own: Server, loss: str, mode: str) -> None:
    """Whatever it asks for next: unavailable, with a word on what happened; and so it stays."""
    snapshot, lose = LOSSES[loss]
    place = Place(own)
    with driven(place.open(ManualClock()), mode) as execute:
        execute(HELD[0])
        if snapshot:
            place.raw.save()
        execute(reserve("r2", 4, TEN))
        execute(settle("r2", 4))
        lose(own)
        for command in EVERYTHING:
            with pytest.raises(BackendUnavailable, match="recover"):
                execute(command)


def test_a_loss_is_noticed_by_who_reads_refusals(place: Place) -> None:
    backend = place.open(ManualClock())
    say(backend, (reserve("r1", 11, TEN), "denied ten:too_big"), HELD)
    for key in place.shows():
        place.raw.delete(key)
    refuses(backend, Refusals())


@pytest.mark.parametrize("name", ["log", "open", "due", "users", "policies"])
def test_a_key_that_is_gone_is_noticed(place: Place, name: str) -> None:
    """An evicted key of any kind: somebody who needs it is told, and nobody spends what was spent."""
    backend = place.open(ManualClock())
    say(backend, (give("credit", 5), "profile 1, grants credit"))
    say(backend, (Publish({"default_plan": "pro"}, None), "policy 1 pro"), (reserve("r1", 4, TEN, profile=1), "held"))
    place.raw.delete(place.key(name))
    needs: dict[str, Command] = {
        "open": settle("r1", 3),
        "due": reserve("new", 1, TEN, profile=1),
        "log": settle("r1", 3),
        "users": reserve("new", 1, TEN, profile=0),
        "policies": PolicyInForce(),
    }
    refuses(backend, needs[name])


def test_a_rewound_store_is_noticed_though_others_went_on(place: Place) -> None:
    """Somebody who had not seen what was lost writes past the number that this process has seen."""
    backend = place.open(ManualClock())
    say(backend, HELD)
    dumped = {key: place.raw.dump(key) for key in place.shows()}
    say(backend, (settle("r1", 3), "settled 3"), (reserve("r2", 4, TEN), "held"))
    for key, value in dumped.items():
        place.raw.restore(key, 0, value, replace=True)  # type: ignore[arg-type]
    other = place.open(ManualClock())
    for number in range(5):
        say(other, (reserve(f"n{number}", 1, TEN), "held"))
    refuses(backend, Look((TEN,)))


def test_who_only_read_has_seen_it_too(place: Place) -> None:
    """A process that looked at meters, and never wrote, knows that there was more."""
    writer, reader = place.open(ManualClock()), place.open(ManualClock())
    say(writer, HELD)
    say(reader, (Look((TEN,)), "meters 0/4/0"))
    dumped = {key: place.raw.dump(key) for key in place.shows()}
    say(writer, (settle("r1", 4), "settled 4"))
    say(reader, (Look((TEN,)), "meters 4/0/0"))
    for key, value in dumped.items():
        place.raw.restore(key, 0, value, replace=True)  # type: ignore[arg-type]
    refuses(reader, Look((TEN,)))
