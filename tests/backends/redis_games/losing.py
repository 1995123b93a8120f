"""State that is lost or spoilt is noticed, and nothing is written over it."""

from __future__ import annotations

from capguard.backends.redis.keys import bucket_of, row_of
from capguard.ledger.commands import (
    Fetch,
    Look,
    Profile,
    Steer,
    Verify,
)
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import cap, extend, release, reserve, settle
from tests.backends.redis_games.game import game
from tests.backends.redis_games.growing import growing
from tests.backends.redis_place import EVER, Place, legs_of, refuses, say


@game
def garbage_is_no_zero(place: Place) -> None:
    """Rows and numbers that read like none of ours are refused, and nothing is written over them."""
    run = cap("run", window="lifetime", idle=600)
    backend = place.open(ManualClock())
    say(backend, (reserve("r1", 1, EVER, run), "held"))
    rows = [row for bucket in place.buckets() for row in bucket if len(row) in (25, 30)]
    assert len(rows) == 3
    for key, field in [("b:0", row) for row in rows] + [("meta", b"rows"), ("meta", b"size"), ("meta", b"seq")]:
        kept = place.raw.hget(place.key(key), field)  # type: ignore[arg-type]
        place.raw.hset(place.key(key), field, "garbage")  # type: ignore[arg-type]
        before = place.shows()
        refuses(backend, reserve("r2", 1, EVER, run))
        assert place.shows() == before
        place.raw.hset(place.key(key), field, kept)  # type: ignore[arg-type]
    say(backend, (reserve("r2", 1, EVER, run), "held"))


@game
def a_strict_process_starts_no_ledger(place: Place) -> None:
    """What is empty is taken for lost where an empty ledger was never to be."""
    refuses(place.open(ManualClock(), strict=True), reserve("r1", 1, *legs_of(1)), Look(legs_of(1)))
    assert place.shows() == {}


@game
def a_lost_bucket(place: Place) -> None:
    """Whoever needs a row of a bucket that is gone is told so, the process that made the row and any other."""
    backend, other = place.open(ManualClock()), place.open(ManualClock())
    say(backend, (reserve("r1", 1, *legs_of(1)), "held"))
    place.raw.delete(place.key("b:0"))
    for each in (backend, other):
        refuses(each, reserve("r2", 1, *legs_of(1)), settle("r1", 1), release("r1"), Look(legs_of(1)), Verify())
    assert place.raw.exists(place.key("b:0")) == 0


@game
def a_lost_bucket_that_only_the_meters_need(place: Place) -> None:
    """A settle from a process that did not make the call: the row of its id is there, that of its meter is lost."""
    growing(place)
    maker, other = place.open(ManualClock()), place.open(ManualClock())
    say(maker, (reserve("new", 1, *legs_of(1)), "held"))
    before = place.shows()
    lost = [
        n for n, rows in enumerate(place.buckets()) if any(row[:24].decode() == legs_of(1)[0].meter for row in rows)
    ]
    place.raw.delete(place.key(f"b:{lost[0]}"))
    refuses(other, settle("new", 1), release("new"), extend("new", amount=5))
    after = {**place.shows(), place.key(f"b:{lost[0]}"): before[place.key(f"b:{lost[0]}")]}
    assert after == before


@game
def a_lost_bucket_that_only_the_id_needs(place: Place) -> None:
    """Whether an id was there already is not known where its bucket is lost, though its meters stand in others."""
    growing(place)
    size = place.meta("size")
    taken = {bucket_of(leg.meter, size) for leg in legs_of(1)}
    ids = {bucket_of(row_of(f"new{number}"), size): number for number in range(400)}
    lost, number = next((bucket, number) for bucket, number in ids.items() if bucket not in taken)
    backend = place.open(ManualClock())
    say(backend, (reserve(f"new{number}", 1, *legs_of(1)), "held"))
    place.raw.delete(place.key(f"b:{lost}"))
    refuses(backend, settle(f"new{number}", 1))
    other = next(each for each in range(400, 9999) if bucket_of(row_of(f"new{each}"), size) == lost)
    refuses(backend, reserve(f"new{other}", 1, *legs_of(1)))


@game
def a_lost_meta(place: Place) -> None:
    """Without its meta key a store is no empty one: neither for who knew it nor for who comes anew."""
    backend = place.open(ManualClock())
    say(backend, (reserve("r1", 1, *legs_of(1)), "held"))
    place.raw.delete(place.key("meta"))
    refuses(backend, reserve("r2", 1, *legs_of(1)), Look(legs_of(1)), Fetch("r1"), Verify())
    refuses(place.open(ManualClock()), reserve("r2", 1, *legs_of(1)), Look(legs_of(1)))
    assert place.raw.exists(place.key("meta")) == 0


@game
def another_store_in_its_place(place: Place) -> None:
    """Everything is gone and others began anew, further than this process had seen: it does not go along."""
    backend, idle, clock = place.open(ManualClock()), place.open(ManualClock()), ManualClock()
    say(idle, (Look(legs_of(1)), "meters 0/0/0 0/0/0 0/0/0"))
    say(backend, (reserve("r1", 1, *legs_of(1)), "held"))
    _forget(place)
    refuses(backend, Look(legs_of(1)))
    other = place.open(clock)
    for number in range(5):
        say(other, (reserve(f"s{number}", 1, *legs_of(2)), "held"))
    refuses(backend, reserve("r2", 1, *legs_of(1)), Look(legs_of(1)), settle("r1", 1), Fetch("r1"), Verify())
    refuses(idle, Look(legs_of(1)))


def _forget(place: Place) -> None:
    for key in place.shows():
        place.raw.delete(key)


@game
def an_older_state(place: Place) -> None:
    """The store is as it was two entries ago: who has seen these two is told, at whatever it asks for."""
    backend = place.open(ManualClock())
    say(backend, (reserve("r1", 1, *legs_of(1)), "held"))
    dumped = {key: place.raw.dump(key) for key in place.shows()}
    say(backend, (settle("r1", 1), "settled 1"), (reserve("r2", 1, *legs_of(1)), "held"))
    for key, value in dumped.items():
        place.raw.restore(key, 0, value, replace=True)
    refuses(backend, reserve("r3", 1, *legs_of(1)), Look(legs_of(1)), settle("r1", 1), Fetch("r1"))
    refuses(backend, Steer("assign", "u1", {"plan": "pro"}), Profile("u1"))


@game
def an_older_state_that_others_wrote_to(place: Place) -> None:
    """As many entries as before, or more, are others: it is told by which they are, not by how many."""
    for more in (0, 3):
        backend = place.open(ManualClock())
        say(backend, (reserve(f"r{more}", 1, *legs_of(1)), "held"))
        dumped = {key: place.raw.dump(key) for key in place.shows()}
        say(backend, (settle(f"r{more}", 1), "settled 1"))
        for key, value in dumped.items():
            place.raw.restore(key, 0, value, replace=True)
        other = place.open(ManualClock())
        for number in range(1 + more):
            say(other, (reserve(f"s{more}-{number}", 1, *legs_of(2)), "held"))
        refuses(backend, Look(legs_of(1)))


@game
def a_lost_key(place: Place) -> None:
    """Whoever needs a key that is there for good is told that it is gone, and does not make it anew."""
    needs = {"open": settle("r1", 1), "due": reserve("r2", 1), "users": reserve("r2", 1), "log": reserve("r2", 1)}
    backend = place.open(ManualClock())
    say(backend, (reserve("r1", 1, *legs_of(1)), "held"))
    for name, command in needs.items():
        kept = place.raw.dump(place.key(name))
        place.raw.delete(place.key(name))
        before = place.shows()
        refuses(backend, command)
        assert place.shows() == before
        place.raw.restore(place.key(name), 0, kept)
    say(backend, (settle("r1", 1), "settled 1"))
