"""P7 and rule 13: what is let through while the backend is away, and that it is booked once it is back."""

from __future__ import annotations

import contextlib
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from capguard import BackendUnavailable, CapExceeded, Guard
from capguard.testing import ManualClock
from tests.resilience.conftest import Watched
from tests.resilience.kit import Program, booked, causes, meter, policy, waiting

EVERYTHING = {"Reserve", "Check", "Settle", "Release", "Extend", "Fetch", "Look", "Profile", "Journal"}


CLOSED_ELSEWHERE = {"id": "d", "limit": 9, "match": {"feature": "x"}, "on_backend_error": "closed"}


def let_through(guard: Guard, cost: object = "0.5", most: int = 50, **call: Any) -> int:
    """How many calls of this size are let through, one after the other."""
    for number in range(most):
        try:
            with guard.call(**{"user": "u1", "cost": cost, **call}) as entered:
                entered.settle(cost=cost)
        except BackendUnavailable:
            return number
    return most


@pytest.mark.parametrize(
    ("failure", "caps", "calls", "expected"),
    [
        ({}, [{"id": "c", "limit": 100}], {}, 4),  # 2% of 100
        ({"offline_share": 0.05}, [{"id": "c", "limit": 100}], {}, 10),
        ({"offline_share": 0}, [{"id": "c", "limit": 100}], {}, 0),
        ({}, [{"id": "c", "limit": 100}, {"id": "d", "limit": 25, "window": "daily"}], {}, 1),  # the tightest
        ({}, [{"id": "c", "limit": 10_000}], {}, 20),  # $10 in all
        ({"offline_allowance": 3}, [{"id": "c", "limit": 10_000}], {}, 6),
        ({"offline_allowance": 0}, [{"id": "c", "limit": 10_000}], {}, 0),
        ({}, [], {}, 20),  # no cap: the allowance alone
        ({}, [{"id": "c", "limit": 1, "action": "warn"}], {}, 20),  # what only tells has no share
        ({}, [{"id": "c", "limit": 1, "action": "downgrade"}], {}, 20),
        ({}, [{"id": "c", "limit": 25, "action": "downgrade", "otherwise": "block"}], {}, 1),
        ({"backend": "closed"}, [{"id": "c", "limit": 100}], {}, 0),
        ({"backend": "closed"}, [], {}, 0),
        ({"backend": "closed"}, [{"id": "c", "limit": 100, "on_backend_error": "open"}], {}, 4),
        ({}, [{"id": "c", "limit": 100, "on_backend_error": "closed"}], {}, 0),
        ({}, [{"id": "c", "limit": 100}, {"id": "d", "limit": 100, "on_backend_error": "closed"}], {}, 0),
        ({}, [{"id": "c", "limit": 100}, CLOSED_ELSEWHERE], {}, 4),
        ({}, [{"id": "c", "limit": 100, "unit": "requests"}], {}, 2),
    ],
)  # fmt: skip
def test_how_much(
    watched: Watched, failure: dict[str, Any], caps: list[dict[str, Any]], calls: dict[str, Any], expected: int
) -> None:
    """A share of each meter's limit, and dollars in all; a cap that says closed closes the call."""
    with Guard("watched://", policy={"caps": caps, "failure": failure}) as guard:
        watched.away = EVERYTHING
        assert let_through(guard, **calls) == expected
        watched.away = set()
        assert guard.flush()
        assert len(booked(guard)) == expected
        assert set(causes(guard).values()) <= {"outage"}
        assert guard.verify()


def test_meters_of_others_have_a_share_of_their_own(watched: Watched) -> None:
    with Guard("watched://", policy=policy()) as guard:
        watched.away = EVERYTHING
        assert [let_through(guard, user=f"u{number}") for number in range(5)] == [4] * 5
        assert let_through(guard, user="u9") == 0  # $10 in all
        watched.away = set()
        assert guard.flush()


def test_only_contact_makes_room_again(watched: Watched, clock: ManualClock) -> None:
    """Neither a cheaper settle, nor a release, nor time: only that the backend knows what was spent."""
    with Guard("watched://", policy=policy(), clock=clock) as guard:
        watched.away = EVERYTHING
        for _ in range(2):
            with guard.call(user="u1", cost="0.5") as call:
                call.settle(cost="0.01")
            with guard.call(user="u1", cost="0.5") as call:
                call.release()
        clock.advance(hours=1)
        assert let_through(guard) == 0
        watched.away = set()
        assert guard.flush()
        watched.away = EVERYTHING
        assert let_through(guard) == 4
        watched.away = set()
        assert guard.flush()
        assert meter(guard) == (Decimal("2.02"), 0, 0)


def test_what_a_call_cost_beyond_its_hold_counts(watched: Watched) -> None:
    with Guard("watched://", policy=policy()) as guard:
        watched.away = EVERYTHING
        with guard.call(user="u1", cost="0.5") as call:
            call.settle(cost="1.6")
        assert let_through(guard) == 0
        watched.away = set()
        assert guard.flush()


def test_the_excess_is_overrun_and_says_why(watched: Watched) -> None:
    """What was let through beyond a limit that was nearly spent."""
    with Guard("watched://", policy=policy()) as guard:
        guard.allow(user="u1", amount="99.7")
        watched.away = EVERYTHING
        assert let_through(guard, cost="0.5") == 4
        watched.away = set()
        assert guard.flush()
        assert meter(guard) == (Decimal("101.7"), 0, Decimal("1.7"))
        assert set(causes(guard).values()) == {"outage"}
        with pytest.raises(CapExceeded):
            guard.reserve(user="u1", cost="0.01")


def test_a_call_that_is_still_open_when_the_backend_is_back(watched: Watched) -> None:
    """It is booked when it ends, once; and its share is not free before that."""
    with Guard("watched://", policy=policy()) as guard:
        watched.away = EVERYTHING
        with guard.call(user="u1", cost="0.5") as call:
            watched.away = set()
            guard.status(user="u1")
            call.settle(cost="0.4")
        assert guard.flush()
        assert meter(guard) == (Decimal("0.4"), 0, 0)
        assert waiting(guard) == 0


@pytest.mark.parametrize("way", ["settled", "released", "left open"])
def test_a_reserve_that_had_landed_after_all(watched: Watched, way: str) -> None:
    """Rule 12: its answer was lost. The call is let through under the same id, and its end resolves that hold."""
    with Guard("watched://", policy=policy()) as guard:
        watched.unheard = {"Reserve"}
        with guard.call(user="u1", cost="0.5", id="landed") as call:
            assert meter(guard) == (0, Decimal("0.5"), 0)
            watched.unheard = set()
            if way == "settled":
                call.settle(cost="0.3")
            elif way == "released":
                call.release()
        assert guard.flush()
        cost = {"settled": "0.3", "released": "0", "left open": "0.5"}[way]
        assert meter(guard) == (Decimal(cost), 0, 0)
        assert len([entry for entry in guard.entries() if entry.id == "landed"]) == 2


def test_a_reserve_without_an_answer_whose_call_is_not_made(watched: Watched) -> None:
    """Rule 12: it may have landed. It is released, as soon as the backend answers."""
    with Guard("watched://", policy=policy(backend="closed")) as guard:
        watched.unheard = {"Reserve"}
        with pytest.raises(BackendUnavailable):
            guard.reserve(user="u1", cost="0.5", id="once")
        watched.unheard = set()
        assert guard.flush()
        assert meter(guard) == (0, 0, 0)


def test_decisions_on_downgrades_and_models_are_made_as_ever(watched: Watched) -> None:
    """What is let through is what the policy says: a model, its price, its parameters."""
    prices = {"big": {"input": 10, "output": 20}}
    with Guard("watched://", policy={**policy(), "prices": prices}) as guard:
        watched.away = EVERYTHING
        with guard.call(user="u1", model="big", prompt="x", max_tokens=100) as call:
            assert call.params == {"model": "big", "max_tokens": 100}
            call.settle({"model": "big", "usage": {"prompt_tokens": 10, "completion_tokens": 5}})
        watched.away = set()
        assert guard.flush()
        assert meter(guard) == (Decimal("0.0002"), 0, 0)


@pytest.mark.parametrize("backend", ["open", "closed"])
def test_check_and_allow(watched: Watched, backend: str) -> None:
    """The failure policy is theirs too: closed raises; open asks the share, and books what is allowed."""
    with Guard("watched://", policy=policy(backend=backend)) as guard:
        watched.away = EVERYTHING
        for ask in (guard.check, guard.allow):
            expected = contextlib.nullcontext() if backend == "open" else pytest.raises(BackendUnavailable)
            with expected:
                assert ask(user="u1", amount="1.5")
        if backend == "open":
            with pytest.raises(BackendUnavailable):
                guard.check(user="u1", amount="1.5")
        watched.away = set()
        assert guard.flush()
        assert meter(guard) == (Decimal("1.5") if backend == "open" else 0, 0, 0)


def test_what_only_looks_says_that_it_cannot(watched: Watched) -> None:
    with Guard("watched://", policy=policy()) as guard:
        watched.away = {*EVERYTHING, "Verify", "Steer"}
        for look in (lambda: guard.status(user="u1"), lambda: list(guard.entries()), guard.verify):
            with pytest.raises(BackendUnavailable):
                look()
        with pytest.raises(BackendUnavailable):
            guard.grant(user="u1", amount=5)
        watched.away = set()


def test_the_same_id_twice(watched: Watched) -> None:
    """Let through once: the second answer is the first one."""
    with Guard("watched://", policy=policy()) as guard:
        watched.away = EVERYTHING
        first = guard.reserve(user="u1", cost="0.5", id="once")
        assert guard.reserve(user="u1", cost="0.5", id="once").id == first.id
        guard.settle(first, cost="0.5")
        watched.away = set()
        assert guard.flush()
        assert meter(guard) == (Decimal("0.5"), 0, 0)


CRASHES = """
from capguard import BackendUnavailable, Guard
guard = Guard(args[0], policy={"caps": [{"id": "c", "limit": 100}]})
count = 0
try:
    while True:
        guard.reserve(user="u1", cost="0.5")
        count += 1
except BackendUnavailable:
    print(count, flush=True)
input()
"""


def test_a_crash_makes_no_room(tmp_path: Path) -> None:
    """Rule 13: remembered per host. A process that is restarted again and again in one outage has one share; two that
    run side by side have two; and all of it is booked when the backend is back."""
    away = "redis://127.0.0.1:1/0"
    for expected in ("4", "0", "0"):
        with Program(CRASHES, away) as program:
            assert program.says() == expected
            program.kill()
    with Program(CRASHES, away) as one, Program(CRASHES, away) as two:
        assert sorted([one.says(), two.says()]) == ["0", "4"]


@pytest.fixture
def published(watched: Watched) -> None:
    """What a process before this one has seen: a published policy, and a profile."""
    with Guard("watched://", initial_policy=policy({"id": "c", "limit": 50})) as guard:
        guard.override(user="u1", cap="c", limit=400)
        guard.allow(user="u1", amount=0)


def test_a_process_that_starts_in_an_outage(watched: Watched, published: None) -> None:
    """By the policy and the profiles that were known last on this host."""
    watched.away = {*EVERYTHING, "PolicyInForce", "Publish"}
    with Guard("watched://") as guard:
        assert let_through(guard, user="u1") == 16
        assert let_through(guard, user="u2") == 2
        watched.away = set()


def test_a_process_that_starts_in_an_outage_and_knows_nothing(watched: Watched) -> None:
    """None known: closed, even where a first policy is given."""
    watched.away = {*EVERYTHING, "PolicyInForce", "Publish"}
    with pytest.raises(BackendUnavailable):
        Guard("watched://", initial_policy=policy())


def test_a_damaged_copy_is_none(watched: Watched, published: None, state: Path) -> None:
    (copy,) = state.rglob("known.json")
    copy.write_text("{")
    watched.away = {*EVERYTHING, "PolicyInForce", "Publish"}
    with pytest.raises(BackendUnavailable):
        Guard("watched://")


def test_nothing_is_let_through_unwritten(watched: Watched, state: Path) -> None:
    """Where the disk cannot be written: unavailable, and it says why."""
    state.write_text("a file in the place of the folder")
    with Guard("watched://", policy=policy()) as guard:
        watched.away = EVERYTHING
        with pytest.raises(BackendUnavailable, match="unwritten"):
            guard.reserve(user="u1", cost="0.5")
        watched.away = set()


def test_a_letter_that_nobody_can_read_stops_no_other(watched: Watched, state: Path) -> None:
    """It is put aside, and said; the rest is booked."""
    with Guard("watched://", policy=policy()) as guard:
        watched.away = EVERYTHING
        first, poison, last = [guard.reserve(user="u1", cost="0.5", id=id) for id in ("first", "poison", "last")]
        for each in (first, poison, last):
            guard.settle(each, cost="0.4")
        door = guard._backend.backend  # type: ignore[attr-defined]
        execute = door.execute

        def chokes(command: Any) -> Any:
            if getattr(command, "id", "") == "poison":
                raise ZeroDivisionError("no backend should")
            return execute(command)

        door.execute = chokes
        watched.away = set()
        assert guard.flush()
        assert meter(guard) == (Decimal("0.8"), 0, 0)
        (aside,) = state.rglob("undeliverable.bad")
        assert '"poison"' in aside.read_text()


def test_nothing_is_written_while_the_backend_answers(watched: Watched, state: Path) -> None:
    """No file is opened, no folder made, no thread started for an outbox that nobody needs."""
    with Guard("watched://", policy=policy()) as guard:
        for _ in range(20):
            with guard.call(user="u1", cost=1) as call:
                call.settle(cost=1)
        assert list(state.rglob("*.outbox")) == []
        assert not any(thread.name == "capguard-replay" for thread in threading.enumerate())


def test_events(watched: Watched) -> None:
    """Once when it goes, once when it is back."""
    told: list[str] = []
    with Guard("watched://", policy=policy()) as guard:
        guard.on("*", lambda event: told.append(event.name))
        watched.away = EVERYTHING
        let_through(guard)
        for _ in range(10):
            with contextlib.suppress(BackendUnavailable):
                guard.reserve(user="u1", cost=50)
        assert told == ["backend_away"]
        watched.away = set()
        assert guard.flush()
        assert told.count("backend_back") == 1
