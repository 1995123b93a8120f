"""Small games for what the table of cases cannot reach on Redis: growing, tidying, losses, races inside of one step.

Each is a function of a place of its own on a real server; it fails where the ledger there is wrong.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from capguard.backends.base import Clock, system_clock
from capguard.backends.redis import RedisBackend
from capguard.errors import BackendUnavailable
from capguard.ledger.caps import Leg
from capguard.ledger.commands import (
    Alerts,
    Command,
    Fetch,
    Look,
    PolicyInForce,
    Profile,
    Publish,
    Refusals,
    Steer,
    Verify,
)
from capguard.ledger.outcomes import Held, Outcome
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import GRACE, TTL, cap, extend, release, reserve, settle
from capguard.testing.conformance.paying import backfill, give, publish
from capguard.testing.conformance.told import told
from capguard.testing.proxy import Proxy
from tests.backends.servers import Server

_numbers = itertools.count()

PER_BUCKET = 56
"""Rows for which a store has a bucket."""

ROWS = re.compile(rb"[0-9a-f]{8}")


class Place:
    """A namespace of its own on a server, and a look at its keys."""

    def __init__(self, server: Server):
        self.server = server
        self.namespace = f"g{next(_numbers)}"
        self.raw: redis.Redis = server.client()

    def open(self, clock: Clock = system_clock, *, deadline: float = 5, port: int = 0, **options: Any) -> RedisBackend:
        """A backend there, or behind the proxy on `port`."""
        url = f"redis://127.0.0.1:{port or self.server.port}/0"
        return RedisBackend(url, namespace=self.namespace, clock=clock, deadline=deadline, **options)

    def key(self, name: str) -> str:
        return f"cg1:{{{self.namespace}}}:{name}"

    def meta(self, field: str) -> int:
        return int(self._asked(self.raw.hget(self.key("meta"), field)) or 0)

    def buckets(self) -> Iterator[dict[bytes, bytes]]:
        """The rows of each bucket."""
        for number in range(self.meta("size")):
            rows: dict[bytes, bytes] = self._asked(self.raw.hgetall(self.key(f"b:{number}")))
            assert rows.pop(b"e"), f"bucket {number} has no epoch"
            yield rows

    def shows(self) -> dict[str, Any]:
        """All keys of this ledger with what is in them."""
        return {key.decode(): self._content(key) for key in self._asked(self.raw.keys(self.key("*").replace("{", "?")))}

    def _content(self, key: bytes) -> Any:
        kind = self._asked(self.raw.type(key))
        if kind == b"hash":
            return self.raw.hgetall(key)
        if kind == b"zset":
            return self.raw.zrange(key, 0, -1, withscores=True)
        return self.raw.xrange(key) if kind == b"stream" else self.raw.get(key)

    @staticmethod
    def _asked(reply: Any) -> Any:
        """redis-py types what its sync client returns as if it might be awaited."""
        return reply


Game = Callable[[Place], None]

GAMES: list[Game] = []


def game(each: Game) -> Game:
    """Mark a game: it is played on every server as it is, and against mutants."""
    GAMES.append(each)
    return each


def say(backend: RedisBackend, *script: tuple[Command, str]) -> None:
    for command, expected in script:
        assert told(backend.execute(command)) == expected, command


def legs_of(user: int, clock: Clock = ManualClock()) -> tuple[Leg, ...]:  # noqa: B008 - the start of the clock
    return tuple(cap(name, 100, who=f"u{user}") for name in ("a", "b", "c"))


def refuses(backend: RedisBackend, *commands: Command) -> None:
    """Each is answered with BackendUnavailable: what is not known is never taken for 0."""
    for command in commands:
        with pytest.raises(BackendUnavailable):
            backend.execute(command)


# What a store does as it grows and ages


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
    say(backend, (reserve("more", 1, *legs_of(99)), "held"))
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


def _for_ten_hours(place: Place, *kind: tuple[Command, str]) -> None:
    """A call a minute, remembered for an hour: what is forgotten leaves, what is not stays, the rows are counted."""
    clock = ManualClock()
    backend = place.open(clock)
    for number in range(600):
        clock.advance(seconds=60)
        say(backend, *((_numbered(command, number), answer) for command, answer in kind[:-1]))
        again, answer = kind[-1]
        say(backend, (_numbered(again, max(0, number - 59)), answer))
    rows = sum(len(rows) for rows in place.buckets())
    assert rows == place.meta("rows")
    assert 60 <= rows < 200


def _numbered(command: Any, number: int) -> Command:
    numbered: Command = command._replace(id=f"r{number}")
    return numbered


EVER = cap("ever", 10**9, window="lifetime")


@game
def settled_calls_are_forgotten(place: Place) -> None:
    again = settle("", 1), "settled 1, again"
    _for_ten_hours(place, (reserve("", 1, EVER), "held"), (settle("", 1), "settled 1"), again)


@game
def calls_of_one_step_are_forgotten(place: Place) -> None:
    call = reserve("", 1, EVER, book=True)
    _for_ten_hours(place, (call, "settled"), (call, "settled, again"))


@game
def tombstones_are_forgotten(place: Place) -> None:
    _for_ten_hours(place, (release(""), "nothing to release"), (reserve("", 1, EVER), "mismatch tombstone"))


@game
def periods_that_are_over_leave(place: Place) -> None:
    """A cap per hour over many weeks: its meters leave 48 hours after their end, and not before."""
    clock = ManualClock()
    backend = place.open(clock)
    for hour in range(24 * 14):
        leg = cap("hour", 10, window="hourly", at=3600 * hour)
        say(backend, (reserve(f"r{hour}", 1, leg), "held"), (settle(f"r{hour}", 1), "settled 1"))
        early = cap("hour", 10, window="hourly", at=3600 * max(0, hour - 48))
        say(backend, (Look((early,)), "meters 1/0/0"))
        clock.advance(seconds=3600)
    meters = [row for rows in place.buckets() for row in rows if len(row) == 30]
    assert 49 <= len(meters) < 100


@game
def a_rolling_row_stays_while_its_newest_bucket_counts(place: Place) -> None:
    """A late settle into an old bucket does not shorten the life of the row, though the bucket is tidied meanwhile."""
    clock = ManualClock()
    backend = place.open(clock)

    def minute(at: float) -> Leg:
        return cap("roll", 100, window="rolling:60s", at=at)

    say(backend, (reserve("old", 5, minute(0), ttl=600), "held"))
    clock.advance(seconds=50)
    say(backend, (reserve("new", 7, minute(50), ttl=600), "held"), (settle("old", 5), "settled 5"))
    clock.advance(seconds=20)
    for number in range(16):
        say(backend, (reserve(f"r{number}", 0, ttl=600), "held"), (settle(f"r{number}", 0), "settled 0"))
    say(backend, (Look((minute(70),)), "meters 0/7/0"))


@game
def rolling_rows_stay_short(place: Place) -> None:
    """A meter that rolls for an hour has what its minute needs, and not every bucket that ever was."""
    clock = ManualClock()
    backend = place.open(clock)
    for at in range(0, 3600, 10):
        say(backend, (reserve(f"r{at}", 1, cap("roll", 100, window="rolling:60s", at=at), book=True), "settled"))
        clock.advance(seconds=10)
    assert [text.count(b";") for rows in place.buckets() for row, text in rows.items() if len(row) == 24] == [7]


@game
def old_alerts_and_refusals_leave(place: Place) -> None:
    """Refusals are counted for 30 days, thresholds are remembered for 400: not less, and not for ever."""
    clock = ManualClock()
    backend = place.open(clock)
    day = 24 * 3600

    def happens(number: int) -> None:
        leg = cap("ten", 10, at=number * day)
        say(backend, (reserve(f"big{number}", 11, leg), "denied ten:too_big"))
        call = reserve(f"r{number}", 5, leg, thresholds=(50,), book=True)
        say(backend, (call, "settled, crossing ten@50%"))

    happens(0)
    clock.advance(days=29)
    happens(29)
    say(backend, (Refusals(), f"refusals ten*1@0 ten*1@{29 * day:g}"))
    clock.advance(days=2)
    happens(31)
    say(backend, (Refusals(), f"refusals ten*1@{29 * day:g} ten*1@{31 * day:g}"))
    clock.advance(days=368)
    happens(399)
    days = (0, 29, 31, 399)
    say(backend, (Alerts(), " ".join(["alerts", *(f"ten:50%@{each * day:g}" for each in days)])))
    clock.advance(days=2)
    happens(401)
    days = (29, 31, 399, 401)
    say(backend, (Alerts(), " ".join(["alerts", *(f"ten:50%@{each * day:g}" for each in days)])))


@game
def no_minus_zero(place: Place) -> None:
    """A call that costs nothing leaves no -0 behind: neither in rows nor in entries."""
    clock = ManualClock()
    backend = place.open(clock)
    legs = (cap("a"), cap("roll", window="rolling:60s"), cap("idle", window="lifetime", idle=60))
    for number, end in enumerate((settle("r0", 0), release("r1"), extend("r2", ttl=90))):
        backend.execute(reserve(f"r{number}", 0, *legs, expected=0))
        backend.execute(end)
    clock.advance(seconds=200)
    backend.execute(Look(legs))
    assert not [each for each in place.shows().items() if re.search(r"-0(?![\d-])(?!')", str(each))]


@game
def the_servers_clock_counts(place: Place) -> None:
    """Without a clock of its own a backend's time is the server's, to the millisecond."""
    backend = place.open()
    before = _ms(place.raw.time())
    held = backend.execute(reserve("r1", 1, cap("ever", window="lifetime")))
    after = _ms(place.raw.time())
    assert isinstance(held, Held)
    assert before <= held.record.made.created_ms <= after


def _ms(time: Any) -> int:
    seconds, microseconds = time
    return int(seconds) * 1000 + int(microseconds) // 1000


@game
def more_is_overdue_than_one_step_ends(place: Place) -> None:
    """2,300 overdue holds: the next decision ends 2,000 of them and is made, the one after it ends the rest."""
    clock = ManualClock()
    backend = place.open(clock)
    leg = cap("crowd", 10**6)
    for number in range(2300):
        backend.execute(reserve(f"r{number}", 1, leg, on_expiry="release"))
    clock.advance(seconds=TTL + GRACE)
    say(backend, (reserve("late", 1), "held"), (Verify(), "verified 4301 entries, 1 meters, 301 open"))
    say(backend, (Look((leg,)), "meters 0/0/0"))


# Others act between two steps of one command


class Meddling(ManualClock):
    """A clock that lets somebody else act when a step asks it for the time: `at` says at which of the next steps."""

    def __init__(self, act: Callable[[], object]):
        super().__init__()
        self._act = act
        self._left = 0
        self.done = False

    def at(self, step: int) -> None:
        self._left = step

    def __call__(self) -> int:
        if self._left:
            self._left -= 1
            if not self._left:
                self._act()
                self.done = True
        return super().__call__()


def _between(place: Place, step: int, theirs: Command, ours: Command) -> Outcome:
    other = place.open(ManualClock())
    meddling = Meddling(lambda: other.execute(theirs))
    backend = place.open(meddling)
    backend.execute(Verify())
    meddling.at(step)
    outcome = backend.execute(ours)
    assert meddling.done
    return outcome


@game
def two_steer_one_user(place: Place) -> None:
    """Between reading and writing a profile another process writes it: both changes are there at the end."""
    _between(place, 2, give("theirs", 5), give("ours", 6))
    say(place.open(ManualClock()), (Profile("u1"), "profile 2, grants theirs ours"))


@game
def two_publish(place: Place) -> None:
    """Between reading and writing the policy another process writes it: ours is revision 2."""
    _between(place, 2, Publish({"default_plan": "theirs"}, None), Publish({"default_plan": "ours"}, None))
    backend = place.open(ManualClock())
    say(backend, (PolicyInForce(), "policy 2 ours"), (PolicyInForce(1), "policy 1 theirs"))


@game
def an_entry_overtakes_a_fill(place: Place) -> None:
    """Between reading the journal and filling a new cap's meters a call is made: the fill is stale."""
    fill = publish("ours", fill=backfill({cap("new"): 0}, last=0))
    assert told(_between(place, 2, reserve("theirs", 1, cap("old")), fill)) == "stale at 0"
    say(place.open(ManualClock()), (PolicyInForce(), "nothing"), (Look((cap("new"),)), "meters 0/0/0"))


# State that is lost


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
    backend, clock = place.open(ManualClock()), ManualClock()
    say(backend, (reserve("r1", 1, *legs_of(1)), "held"))
    _forget(place)
    refuses(backend, Look(legs_of(1)))
    other = place.open(clock)
    for number in range(5):
        say(other, (reserve(f"s{number}", 1, *legs_of(2)), "held"))
    refuses(backend, reserve("r2", 1, *legs_of(1)), Look(legs_of(1)), settle("r1", 1), Fetch("r1"), Verify())


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
