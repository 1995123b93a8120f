"""Keys that others wrote to: a step that needs them is unavailable, and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from capguard.errors import BackendUnavailable
from capguard.ledger.commands import Command, Look, Publish, Steer, Verify
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import cap, extend, release, reserve, settle
from tests.backends.redis_place import HELD, TEN, Place, refuses, say
from tests.backends.servers import servers, shared

TOLD = cap("told", 5, "warn")

KEYS = ("meta", "open", "due", "log", "users", "policies", "refused", "alerts", "b:0")
HALF = (50,)
STEPS: tuple[Command, ...] = (
    reserve("new", 5, TEN, TOLD),
    reserve("new", 5, TEN, book=True, thresholds=HALF),
    reserve("new", 9, TEN),
    settle("r1", 9),
    release("r1"),
    release("new"),
    extend("r1", ttl=90, amount=6),
    Steer("assign", "u1", {"plan": "pro"}),
    Publish({"default_plan": "pro"}, None),
    Look((TEN,)),
)


def _of_another_type(place: Place, name: str) -> None:
    place.raw.delete(place.key(name))
    place.raw.set(place.key(name), "notanumber")


def _each_step_without(name: str) -> Iterator[Any]:
    for step in STEPS:
        yield pytest.param(name, step, id=f"{name}, {type(step).__name__} {getattr(step, 'id', '')}")


@pytest.mark.parametrize(("name", "step"), [each for name in KEYS for each in _each_step_without(name)])
def test_a_key_of_another_type(name: str, step: Command) -> None:
    """A step that needs it is unavailable and writes nothing at all; a step that does not is carried out whole."""
    place = Place(shared(servers()[-1]))
    backend = place.open(ManualClock())
    say(backend, (reserve("r1", 4, TEN, thresholds=HALF), "held"))
    _of_another_type(place, name)
    before = place.shows()
    try:
        backend.execute(step)
    except BackendUnavailable:
        assert place.shows() == before


GARBAGE = (
    ("meta", "seq", "notanumber"),
    ("meta", "size", "notanumber"),
    ("meta", "size", "0"),
    ("meta", "now", "notanumber"),
    ("meta", "rows", "notanumber"),
    ("open", "r1", "notanumber"),
    ("b:0", TEN.meter, "notanumber"),
)


@pytest.mark.parametrize(("name", "field", "value"), GARBAGE)
def test_garbage_in_a_key(place: Place, name: str, field: str, value: str) -> None:
    """A value that is none of ours: unavailable, nothing is written, and never taken for 0."""
    backend = place.open(ManualClock())
    say(backend, HELD)
    _write(place, name, field, value)
    before = place.shows()
    refuses(backend, settle("r1", 3), extend("r1", amount=9), *([reserve("new", 5, TEN)] if name != "open" else []))
    assert place.shows() == before


def _write(place: Place, name: str, field: str, value: str) -> None:
    rows = {row[:24].decode(): row for rows in place.buckets() for row in rows if len(row) == 30}
    place.raw.hset(place.key(name), rows.get(field, field), value)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "field", "value"), GARBAGE)
def test_garbage_is_no_traceback_of_who_verifies(place: Place, name: str, field: str, value: str) -> None:
    """Whoever verifies a store with garbage in it is told so as of any other store that cannot be used."""
    backend = place.open(ManualClock())
    say(backend, HELD)
    _write(place, name, field, value)
    refuses(backend, Verify())
