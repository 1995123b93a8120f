"""A state machine: random commands go to the backend and to the ledger in memory, and both must answer the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from capguard.backends.base import Backend, Clock
from capguard.backends.memory import MemoryBackend
from capguard.ledger.caps import Leg
from capguard.ledger.commands import Check, Command, Fetch, Journal, Look, Verify
from capguard.ledger.outcomes import Held, Meters, Outcome, Verified
from capguard.testing.clock import ManualClock
from capguard.testing.conformance import drawing
from capguard.testing.conformance.builders import START_MS, extend, release, reserve, settle
from capguard.testing.conformance.driving import driven, same

QUICK = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


class LedgerMachine(RuleBasedStateMachine):
    """Every command that the contract knows, on few ids, so that duplicates and late ones are common."""

    def __init__(self, open: Callable[[Clock], Backend], mode: str):
        super().__init__()
        self.clock = ManualClock()
        self.stack = ExitStack()
        self.model = MemoryBackend(self.clock)
        self.candidate = self.stack.enter_context(driven(open(self.clock), mode))
        self.legs: dict[Leg, None] = {}
        self.ids: dict[str, None] = {}
        self.last: Command | None = None

    @rule(data=st.data(), count=st.integers(1, 3), book=st.sampled_from([False, False, False, True]))
    def reserves(self, data: st.DataObject, count: int, book: bool) -> None:
        for _ in range(count):
            command = data.draw(drawing.reserves(self.seconds(), book=book))
            outcome = self.both(command)
            if isinstance(outcome, Held):
                self.legs |= dict.fromkeys(outcome.record.made.legs)
                self.ids |= {command.id: None}
            if isinstance(outcome, Held) and not outcome.replayed:
                self.it_fits(outcome)

    @rule(data=st.data())
    def checks(self, data: st.DataObject) -> None:
        self.both(Check(data.draw(drawing.reserves(self.seconds(), book=False))))

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), amount=drawing.COSTS)
    def settles(self, data: st.DataObject, amount: dict[str, int]) -> None:
        self.both(settle(self.some_id(data), amount))

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def releases(self, data: st.DataObject) -> None:
        self.both(release(self.some_id(data), 60))

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), ttl=st.none() | st.integers(1, 300), amount=st.none() | drawing.COSTS)
    def extends(self, data: st.DataObject, ttl: int | None, amount: dict[str, int] | None) -> None:
        self.both(extend(self.some_id(data), ttl=ttl, amount=amount))

    @rule(id=drawing.IDS)
    def releases_before_the_reserve(self, id: str) -> None:
        self.both(release(id, 600))

    @rule(id=drawing.IDS, after=st.integers(0, 20), limit=st.integers(1, 10), user=st.sampled_from([None, "u1", "u2"]))
    def reads(self, id: str, after: int, limit: int, user: str | None) -> None:
        self.both(Fetch(id))
        self.both(Journal(after=after, limit=limit, user=user))

    @precondition(lambda self: self.last is not None)
    @rule()
    def sends_twice(self) -> None:
        assert self.last is not None
        self.both(self.last)

    @rule(seconds=st.sampled_from([0.5, 1, 29, 31, 61, 400, 3600, -1, -40]))
    def time_passes(self, seconds: float) -> None:
        """Before a step back an entry is made: how far the books have come is known from what is written in them."""
        if seconds < 0:
            self.both(reserve("a mark", 0, book=True, retention=0))
        self.clock.advance(seconds=seconds)

    @invariant()
    def the_books_are_right(self) -> None:
        """Meters are equal, none holds less than nothing, and the journal explains every one of them."""
        found = self.both(Look(tuple(self.legs)))
        assert isinstance(found, Meters)
        for leg, meter in zip(self.legs, found.states, strict=True):
            assert min(meter) >= 0, leg
            if leg.enforcing and leg.cap not in drawing.ROLLING:
                assert meter.settled + meter.held - meter.overrun <= leg.limit, leg
        verified = self.both(Verify())
        assert isinstance(verified, Verified)
        assert (verified.differences, verified.complete) == ((), True)

    def teardown(self) -> None:
        """After everything has expired nothing is held."""
        with self.stack:
            self.clock.advance(hours=30)
            self.both(reserve("the last", 0))
            found = self.both(Look(tuple(self.legs)))
            assert isinstance(found, Meters)
            assert sum(meter.held for meter in found.states) == 0

    def it_fits(self, outcome: Held) -> None:
        """Admission, judged against the limit on the entry: all that counts now is within it."""
        made = outcome.record.made
        found = self.both(Look(made.legs))
        assert isinstance(found, Meters)
        for leg, meter in zip(made.legs, found.states, strict=True):
            if leg.enforcing and made.held.get(leg.unit, 0):
                assert meter.settled + meter.held <= leg.limit, leg

    def both(self, command: Command) -> Outcome:
        """Send a command to both ledgers; they answer the same."""
        if not isinstance(command, (Look, Verify)):
            self.last = command
        expected = self.model.execute(command)
        assert same(self.candidate(command)) == same(expected), command
        return expected

    def some_id(self, data: st.DataObject) -> str:
        """An id that was used, mostly the newest."""
        ids = list(self.ids)
        return data.draw(st.sampled_from([*ids, *ids[-1:] * 2]))

    def seconds(self) -> float:
        return (self.clock() - START_MS) / 1000


def run_machine(open: Callable[[Clock], Backend], mode: str, options: Any = QUICK) -> None:
    """Play many random games against fresh ledgers; raises with the shortest game that was lost."""
    machine: Any = partial(LedgerMachine, open, mode)  # hypothesis is typed for a class; it calls it, no more
    run_state_machine_as_test(machine, settings=options)
