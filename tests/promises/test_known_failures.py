"""What went wrong with holds, counters and ids in systems like this one, and what happens here instead.

A test's name bears the row of the list of known failures, its docstring the public issue, the scenario and the
expectation. Rows about policies and about usage have files of their own; those about hosts stand with the adapters.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from capguard import BackendUnavailable, CapExceeded, Guard, Usage, capped
from capguard.testing import ManualClock
from tests.kit import kinds, last
from tests.promises.conftest import Watched
from tests.promises.kit import ASK, BIG, Opened, cap, caps, meters, refused, refusing, spend, state, writing

Two = Callable[..., list[Guard]]


def at_once(number: int, work: Callable[[int], bool]) -> int:
    """How many of `number` threads that begin at the same moment answer yes."""
    gate = threading.Barrier(number)

    def begin(index: int) -> bool:
        gate.wait()
        return work(index)

    with ThreadPoolExecutor(number) as pool:
        return sum(pool.map(begin, range(number)))


def admitted(guard: Guard, **call: Any) -> bool:
    try:
        guard.reserve(**call)
    except CapExceeded:
        return False
    return True


# admission


@pytest.mark.parametrize(("hold", "room"), [("0.25", 4), ("0.3", 3), ("1", 1)])
def test_row_1_parallel_calls_all_read_the_old_spend(opened: Opened, hold: str, room: int) -> None:
    """litellm #34732: parallel calls of one session all read the old spend and pass. Here floor(C / hold) are held,
    and what is settled never exceeds C while no call costs more than its hold."""
    guard = opened(caps(cap(limit=1, per=["session"])))
    ask = {"user": "u1", "session": "s", "cost": hold}
    assert at_once(16, lambda _: admitted(guard, **ask)) == room
    for entry in list(guard.entries()):
        guard.settle(entry.id, cost=hold)
    assert state(guard, session="s").settled == room * Decimal(hold) <= 1


def test_row_2_the_first_calls_of_a_never_seen_user(opened: Opened) -> None:
    """litellm #40095: the first concurrent calls of a new end user skip the default budget. Here the meter comes into
    being in the step of the hold: of sixteen first calls with room for one, one is held."""
    guard = opened(caps(plans={"free": {"caps": [cap(limit=1)]}}, default_plan="free"))
    assert at_once(16, lambda _: admitted(guard, user="never-seen", cost=1)) == 1


def test_row_17_another_process_is_never_stale(two: Two, clock: ManualClock) -> None:
    """litellm #34238, #27735: after a counter expired, a pod enforced its own old value. Here no process keeps one:
    each sees at once what the other spent, and that a new period began."""
    here, there = two(caps(cap(limit=2, window="daily")))
    for guard, other in ((here, there), (there, here)):
        spend(guard, 1)
        assert state(other).settled == state(guard).settled
    assert refusing(here, user="u1", cost=1) == refusing(there, user="u1", cost=1) == ["c"]
    clock.advance(days=1)
    there.reserve(user="u1", cost=1)
    assert meters(here) == {"c": (0, 1)}


def test_row_60_concurrent_bypass_and_streams_charged_after(opened: Opened) -> None:
    """Envoy AI GW #680, #2394, #1754: calls in flight are not counted, streams only when they have ended. Here a
    stream holds its room from before its first chunk to its last."""
    guard = opened(caps(cap(limit=BIG)))
    with guard.call(**ASK) as call:
        for _ in call.stream(iter([{"choices": [{"delta": {"content": "word"}}]}] * 3)):
            assert refused(guard, **ASK).reason == "in_flight"
    assert state(guard).held == 0


def test_row_61_a_gap_between_check_and_record(opened: Opened) -> None:
    """any-llm PR #836, Floe PR #20: a lock around each method leaves the gap between check and record open. Here
    `check` promises nothing, and the deciding and the holding are one step."""
    guard = opened(caps(cap(limit=3)))

    def look_then_leap(_: int) -> bool:
        return bool(guard.check(user="u1", cost=1)) and admitted(guard, user="u1", cost=1)

    assert at_once(12, look_then_leap) == 3
    assert at_once(12, lambda _: bool(guard.allow(user="u2", amount=1))) == 3


# holds


class Refused(Exception):
    status_code = 400


def raised(error: BaseException) -> Callable[[Guard], Any]:
    def exit(guard: Guard) -> None:
        with suppress(type(error)), guard.call(**ASK):
            raise error

    return exit


def settled_twice(guard: Guard) -> None:
    with guard.call(**ASK) as call:
        call.settle(cost="0.001")
        call.settle(usage=Usage(output_tokens=5))


def released(guard: Guard) -> None:
    with guard.call(**ASK) as call:
        call.release()


def stream_dropped(guard: Guard) -> None:
    with guard.call(**ASK) as call:
        next(iter(call.stream(iter(["data: {}\n\n"] * 3))))
    del call
    gc.collect()


def cancelled(guard: Guard) -> None:
    async def slow() -> None:
        async with guard.call(**ASK):
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(slow())
        while not kinds(guard):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())


EXITS: dict[str, Callable[[Guard], Any]] = {
    "settled twice": settled_twice,
    "released": released,
    "left": lambda guard: guard.call(**ASK).__enter__().__exit__(None, None, None),  # type: ignore[func-returns-value]
    "an error": raised(ValueError("boom")),
    "an error status": raised(Refused()),
    "a time-out": raised(TimeoutError()),
    "no connection": raised(ConnectionRefusedError()),
    "interrupted": raised(KeyboardInterrupt()),
    "cancelled": cancelled,
    "a stream dropped": stream_dropped,
}


@pytest.mark.parametrize("exit", EXITS)
def test_row_4_leaked_holds(opened: Opened, exit: str) -> None:
    """litellm #27639, PR #29493: holds leak, the counter is a multiple of the hold, calls are refused for nothing.
    Here every way out settles or releases: at rest nothing is held."""
    guard = opened(caps(cap()))
    EXITS[exit](guard)
    assert state(guard).held == 0
    assert len(kinds(guard)) == 2


def test_row_4_a_hold_whose_owner_died_expires(opened: Opened, clock: ManualClock) -> None:
    """The same, where nobody is left to clean up: the hold ends by itself, with no daemon."""
    guard = opened(caps(cap(limit=1)))
    guard.reserve(user="u1", cost=1)
    clock.advance(minutes=3)
    assert meters(guard) == {"c": (1, 0)}


@pytest.mark.parametrize("actual", ["0.0001", "0.00201", "0.01"])
def test_row_5_the_hold_is_replaced_never_added_to(opened: Opened, actual: str) -> None:
    """litellm #36926: with one process the counter stood at twice the spend. Here what is used is the hold before the
    settle, and the cost after it."""
    guard = opened(caps(cap()))
    reservation = guard.reserve(**ASK)
    assert meters(guard) == {"c": (0, BIG)}
    guard.settle(reservation, cost=actual)
    assert meters(guard) == {"c": (Decimal(actual), 0)}


def test_row_6_one_call_through_two_hooks(opened: Opened) -> None:
    """litellm #40050: a call that two hooks saw was enforced at 111 where it cost 55. Here layers that are nested
    charge once."""
    guard = opened(caps(cap()))

    @capped(guard, user="user")
    def inner(user: str, model: str, prompt: str) -> dict[str, Any]:
        return {"model": model, "usage": {"prompt_tokens": 10, "completion_tokens": 5}}

    with guard.call(**ASK):
        inner("u1", "big", "x")
    assert meters(guard) == {"c": (Decimal("0.0002"), 0)}
    assert kinds(guard) == ["reserve", "settle"]


def test_row_9_a_settle_is_one_step(watched: Watched) -> None:
    """litellm #35569: dropping the hold failed, the full cost was added all the same. Here both are one command: it
    is carried out or it is not."""
    with Guard("watched://", policy=caps(cap())) as guard:
        reservation = guard.reserve(user="u1", cost=1)
        watched.asked.clear()
        watched.away = {"Settle"}
        assert "kept" in guard.settle(reservation, cost="0.4").flags
        assert meters(guard) == {"c": (0, 1)}
        watched.away = set()
        assert guard.flush()
        assert meters(guard) == {"c": (Decimal("0.4"), 0)}
        assert "Release" not in watched.asked


@pytest.mark.parametrize("command", ["Reserve", "Settle"])
def test_row_10_a_failure_of_every_step_is_seen(watched: Watched, command: str) -> None:
    """litellm #33923: fail-closed was ignored where the write of the hold failed. Here no hold, no call; and a settle
    that was not acknowledged is kept on this host's disk, and says so."""
    with Guard("watched://", policy=caps(cap(), failure={"backend": "closed"})) as guard:
        watched.away = {command}
        if command == "Reserve":
            with pytest.raises(BackendUnavailable), guard.call(**ASK):
                raise AssertionError("the call must not be made")
        else:
            reservation = guard.reserve(**ASK)
            settlement = guard.settle(reservation, cost=1)
            assert ("kept" in settlement.flags, settlement.durable, settlement.entry_id) == (True, True, 0)


def test_row_15_a_settle_that_fails_drops_no_spend(watched: Watched, clock: ManualClock) -> None:
    """litellm PR #30039: an error in the reconciling dropped the spend. Here the reply is not disturbed; what it cost
    is kept on disk, and booked once the store is back."""
    with Guard("watched://", policy=caps(cap()), clock=clock) as guard:
        with guard.call(user="u1", cost=2) as call:
            watched.away = {"Settle"}
            call.settle(cost=1)
        assert meters(guard) == {"c": (0, 2)}
        watched.away = set()
        assert guard.flush()
        assert meters(guard) == {"c": (1, 0)}


# ids


@pytest.mark.parametrize("verb", ["reserve", "settle", "allow", "release", "grant"])
def test_row_8_a_retry_of_what_was_applied(watched: Watched, verb: str) -> None:
    """litellm #30460: the store timed out and had applied, the client tried again, the counter was inflated. Here each
    operation has an id: whoever sends it again gets the answer that was lost."""
    steps: dict[str, tuple[str, Callable[[Guard], Any]]] = {
        "reserve": ("Reserve", lambda guard: guard.reserve(user="u1", cost=1, id="once")),
        "settle": ("Settle", lambda guard: guard.settle("first", cost="0.5")),
        "allow": ("Reserve", lambda guard: guard.allow(user="u1", amount=1, id="once")),
        "release": ("Release", lambda guard: guard.release("first")),
        "grant": ("Steer", lambda guard: guard.grant(user="u1", amount=5, id="once")),
    }
    command, step = steps[verb]
    with Guard("watched://", policy=caps(cap(limit=100))) as guard:
        guard.reserve(user="u1", cost=1, id="first")
        watched.unheard = {command}
        if verb == "grant":
            with pytest.raises(BackendUnavailable):
                step(guard)
        else:
            step(guard)  # let through, or kept: nobody knows what the store has done
        watched.unheard = set()
        once, entries = guard.status(user="u1").to_dict(), len(kinds(guard))
        step(guard)
        assert guard.flush()
        again = guard.status(user="u1").to_dict()
        assert (again["caps"], again["grants"], len(kinds(guard))) == (once["caps"], once["grants"], entries)
        assert entries == 2


def test_row_67_deducted_twice_and_below_zero(opened: Opened) -> None:
    """Lago PR #2542, #1925: the ongoing balance was deducted twice, and went negative. Here a settle is booked once,
    what remains is never below 0, and a debt is told as such."""
    guard = opened(caps(cap(limit=1)))
    reservation = guard.reserve(user="u1", cost=1)
    for _ in range(3):
        guard.settle(reservation, cost="1.4")
    shown = state(guard)
    assert (shown.settled, shown.remaining, shown.overrun) == (Decimal("1.4"), 0, Decimal("0.4"))


# counters


def test_row_3_a_counter_that_vanished(two: Two, tmp_path: Path) -> None:
    """litellm #26672, PR #40600: a window's counter vanished and read 0; $99 were spent under a cap of $30 a day. Here
    the journal knows: `verify` tells which meter is not what its entries say."""
    policy = caps(cap(limit=30, window="daily"))
    with Guard(f"sqlite:///{tmp_path}/lost.db", policy=policy) as guard:
        spend(guard, 29)
        assert guard.verify()
        with sqlite3.connect(tmp_path / "lost.db") as connection:
            connection.execute("DELETE FROM meter")
        connection.close()
        found = guard.verify()
        assert not found
        assert [(each.journal, each.stored) for each in found if each.what == "settled"] == [(29 * 10**9, 0)]


def test_row_7_a_cold_counter_that_every_process_fills(two: Two) -> None:
    """litellm #28247: N pods each add the stored value to a cold key, which then shows N times the spend. Here a new
    cap is filled from the journal in the step that publishes it, once, whoever publishes."""
    guards = two(None, 4, initial_policy=caps(cap("old", 99)))
    spend(guards[0], 7)
    for guard in guards:
        guard.publish(caps(cap("old", 99), cap("new", 99)), backfill=True)
        assert state(guard, "new").settled == 7


def test_row_22_refused_retries_prolong_nothing(opened: Opened, clock: ManualClock) -> None:
    """litellm #39726, #30002, PR #38686: each refused retry prolonged the counter's life, so that a user was never let
    in again. Here a refusal writes nothing, and the reset comes when it was said to come."""
    guard = opened(caps(cap(limit=1, window="hourly"), cap("day", 1, window="rolling:1h", per=["session"])))
    spend(guard, 1, session="s")
    for _ in range(59):
        clock.advance(minutes=1)
        assert not guard.allow(user="u1", session="s", amount=1)
    assert kinds(guard) == ["reserve", "settle"]
    clock.advance(minutes=4)
    guard.reserve(user="u1", session="s", cost=1)


def test_row_64_the_drift_of_float_counters(opened: Opened) -> None:
    """PostHog PR #64126, redis #4663: sums of floats drift, so that caps let too much or too little pass. Here ten
    times 0.1 fit into 1, exactly, and 0.7 + 0.1 + 0.2 is all of it."""
    guard = opened(caps(cap(limit=1)))
    assert sum(bool(guard.allow(user="u1", amount=0.1)) for _ in range(12)) == 10
    assert all(guard.allow(user="u2", amount=amount) for amount in (0.7, 0.1, 0.2))
    assert str(state(guard).settled) == str(state(guard, user="u2").settled) == "1"


def test_row_75_fractions_are_not_lost(opened: Opened) -> None:
    """Kong 3.12/3.13: a cost of less than a unit was rounded away. Here the smallest cost is a nano-dollar, what is
    smaller is rounded up to it, and a hundred of them are a hundred."""
    guard = opened(caps(cap()))
    for _ in range(50):
        assert guard.allow(user="u1", amount="0.000000001")
        assert guard.allow(user="u1", amount="0.0000000001")
    assert state(guard).settled == Decimal("0.0000001")


def test_row_65_database_is_locked(two: Two) -> None:
    """ogx PR #4048, xorcise #107: SQLite answers "database is locked" under load. Here writers of many threads and
    processes take turns, and none of them sees it."""
    guards = two(caps(cap(limit=99)), 4)
    assert at_once(12, lambda n: all(guards[n % 4].allow(user="u1", amount=1) for _ in range(5))) == 12
    assert state(guards[0]).settled == 60


def test_row_65_a_lock_that_stays_is_a_backend_that_is_away(tmp_path: Path) -> None:
    """The same, where another program holds the file: `BackendUnavailable`, no error of SQLite and no refusal."""
    with Guard(f"sqlite:///{tmp_path}/l.db?timeout=0.01", policy=caps(cap())) as guard:
        spend(guard, 1)
        with writing(tmp_path / "l.db"), pytest.raises(BackendUnavailable, match="locked"):
            guard.reserve(user="u1", cost=1)
        guard.reserve(user="u1", cost=1)
        assert last(guard).kind == "reserve"
