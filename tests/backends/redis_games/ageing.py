"""A store ages: what is over leaves, what is not stays, and time is the server's."""

from __future__ import annotations

import re
from typing import Any

from capguard.ledger.caps import Leg
from capguard.ledger.commands import (
    Alerts,
    Command,
    Journal,
    Look,
    Refusals,
    Verify,
)
from capguard.ledger.outcomes import Held
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import GRACE, TTL, cap, extend, release, reserve, settle
from tests.backends.redis_games.game import game
from tests.backends.redis_place import EVER, Place, say


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
    for number in range(64):
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


@game
def a_call_made_anew(place: Place) -> None:
    """Who knows an id's first call settles its second one, which another process made on another meter."""
    clock = ManualClock()
    maker, other = place.open(clock), place.open(clock)
    first, second = cap("first", window="lifetime"), cap("second", window="lifetime")
    say(maker, (reserve("r1", 4, first, retention=60), "held"))
    say(other, (settle("r1", 4), "settled 4"))
    clock.advance(seconds=61)
    say(other, (reserve("r1", 4, second), "held"))
    say(maker, (settle("r1", 3), "settled 3"), (Look((first, second)), "meters 4/0/0 3/0/0"))


@game
def a_settle_is_remembered_from_its_own_time(place: Place) -> None:
    """Retention counts from the settle, however long the call took."""
    clock = ManualClock()
    backend = place.open(clock)
    say(backend, (reserve("r1", 4, cap("ten", 10, window="lifetime"), ttl=7200, retention=3600), "held"))
    clock.advance(seconds=3000)
    say(backend, (settle("r1", 4), "settled 4"))
    clock.advance(seconds=3599)
    say(backend, (settle("r1", 4), "settled 4, again"))
    clock.advance(seconds=1)
    say(backend, (settle("r1", 4), "unknown"))


@game
def a_hold_that_outlives_its_period(place: Place) -> None:
    """Nothing is booked on a period that ended 48 hours ago, though the hold was as long."""
    clock = ManualClock()
    backend = place.open(clock)
    say(backend, (reserve("r1", 4, cap("hour", 10, window="hourly"), ttl=72 * 3600), "held"))
    clock.advance(hours=50)
    say(backend, (settle("r1", 4), "settled 4"))
    page: Any = backend.execute(Journal())
    assert page.lines[-1].body["moves"] == []
