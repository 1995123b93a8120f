"""A state machine: random commands go to the backend and to the ledger in memory, and both must answer the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from capguard.backends.base import Backend, Clock
from capguard.backends.memory import MemoryBackend
from capguard.ledger.caps import Amounts, Leg, MeterState
from capguard.ledger.commands import (
    READS,
    Alerts,
    Check,
    Command,
    Fetch,
    Journal,
    Look,
    PolicyInForce,
    Profile,
    Publish,
    Refusals,
    Reserve,
    Steer,
    Verify,
)
from capguard.ledger.outcomes import (
    NEVER,
    Denied,
    Found,
    Held,
    Meters,
    Outcome,
    Published,
    Record,
    Revised,
    Settled,
    Steered,
    Telling,
    Verified,
)
from capguard.testing.clock import ManualClock
from capguard.testing.conformance import drawing, truths
from capguard.testing.conformance.builders import reserve, seconds, settle
from capguard.testing.conformance.driving import driven, same
from capguard.testing.conformance.paying import give

QUICK = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


class LedgerMachine(RuleBasedStateMachine):
    """Every command that the contract knows, on few ids, so that duplicates and late ones are common."""

    def __init__(self, open: Callable[[Clock], Backend], mode: str):
        super().__init__()
        self.clock = ManualClock()
        self.now_ms = self.clock()
        self.stack = ExitStack()
        self.model = MemoryBackend(self.clock)
        self.candidate = self.stack.enter_context(driven(open(self.clock), mode))
        self.legs: dict[Leg, None] = {}
        self.sources: dict[Leg, None] = {}
        self.ids: dict[str, None] = {}
        self.profiles: dict[str, Revised] = {}
        self.policy = 0
        self.marks: set[truths.Mark] = set()
        self.last: Command | None = None
        self.looked_away = False

    @initialize(amount=st.integers(1, 7))
    def grants(self, amount: int) -> None:
        self.steer(give("g1", amount))

    @rule(data=st.data(), turn=st.sampled_from(drawing.TURNS))
    def goes_on(self, data: st.DataObject, turn: str) -> None:
        """One rule for all turns: of several, hypothesis would leave most out of most games."""
        turns: dict[str, Callable[[st.DataObject], None]] = {
            "reserve": self.reserves,
            "settle": self.settles,
            "steer": self.steers,
            "read": self.reads,
            "wait": self.time_passes,
        }
        if turn in turns:
            turns[turn](data)
        else:
            self.ends(data, turn)

    def reserves(self, data: st.DataObject) -> None:
        for how in data.draw(st.lists(st.sampled_from(["hold", "hold", "book", "ask"]), min_size=1, max_size=4)):
            known = drawing.Known(self.seconds(), self.profiles, self.policy)
            command = data.draw(drawing.reserves(known, book=how == "book"))
            outcome = self.both(Check(command) if how == "ask" else command)
            if isinstance(outcome, Held) and how != "ask":
                self.ids |= {command.id: None}
                if not outcome.replayed:
                    self.it_is_held(command, outcome)

    def settles(self, data: st.DataObject) -> None:
        id, amounts = self.some_id(data), data.draw(drawing.COSTS)
        before, after = self.both(Fetch(id)), self.both(settle(id, amounts))
        if isinstance(before, Found) and isinstance(after, Settled) and not after.replayed:
            self.it_is_paid(after.record, amounts)
            if after.late == (before.record.state != "held"):  # else it has expired within this step
                truths.own_parts_are_kept(before.record, after.record, amounts)

    def ends(self, data: st.DataObject, verb: str) -> None:
        """A release or an extension, also of calls that were never made; or the last command again."""
        again = self.last if verb == "again" else None
        self.both(again or data.draw(drawing.second_phase(verb, self.some_id(data))))

    def steers(self, data: st.DataObject) -> None:
        self.steer(data.draw(drawing.steers(self.seconds())))

    def reads(self, data: st.DataObject) -> None:
        after, limit, user = data.draw(st.tuples(st.integers(0, 20), st.integers(1, 10), st.none() | drawing.USERS))
        pages: list[Command] = [
            Journal(after=after, limit=limit, user=user),
            Refusals(limit=limit),
            Alerts(limit=limit),
        ]
        for command in [*pages, PolicyInForce(after or None), *map(Profile, drawing.PEOPLE)]:
            self.both(command)

    def time_passes(self, data: st.DataObject) -> None:
        """Before a step back an entry is made: how far the books have come is known from what is written in them.

        Nobody looks after it, because that would end what is overdue, as the next command shall.
        """
        seconds = data.draw(drawing.WAITS)
        if seconds < 0:
            self.both(reserve("a mark", 0, book=True, retention=0, user=None))
        self.clock.advance(seconds=seconds)
        self.looked_away = True

    @precondition(lambda self: not self.looked_away)
    @invariant()
    def the_books_are_right(self) -> None:
        """Meters are equal, none holds less than nothing, and the journal explains every one of them."""
        for leg, meter in zip(self.legs, self.meters(self.legs), strict=True):
            assert min(meter) >= 0, leg
            if leg.enforcing and leg.since == leg.period:
                assert meter.used - meter.overrun <= leg.limit, leg
        for source, meter in zip(self.sources, self.meters(self.sources), strict=True):
            assert min(meter) >= meter.overrun == 0, source
            assert meter.used <= source.limit, source
        verified = self.both(Verify())
        assert isinstance(verified, Verified)
        assert (verified.differences, verified.complete) == ((), True)

    @precondition(lambda self: not self.looked_away)
    @invariant()
    def no_window_that_is_on_is_broken(self) -> None:
        """What is in a rolling window now, and was no overrun, is within its limit."""
        legs = [drawing.leg_of(sort, user, self.seconds()) for sort in drawing.ROLLING for user in drawing.PEOPLE]
        for leg, meter in zip(legs, self.meters(legs), strict=True):
            assert meter.used - meter.overrun <= leg.limit, leg

    def teardown(self) -> None:
        """After everything has expired nothing is held."""
        with self.stack:
            self.clock.advance(hours=30)
            self.both(reserve("the last", 0, user=None))
            assert sum(meter.held for meter in self.meters([*self.legs, *self.sources])) == 0

    def it_is_held(self, command: Reserve, held: Held) -> None:
        made = held.record.made
        self.legs |= dict.fromkeys(made.legs)
        self.sources |= dict.fromkeys(made.sources)
        after = self.meters(made.legs)
        truths.it_fits(held, after)
        truths.it_is_as_long_as_can_be(command, held, after)
        self.it_is_paid(held.record, made.held)

    def it_is_paid(self, record: Record, amounts: Amounts) -> None:
        """Each source in its order, up to what it has."""
        grants = self.profiles.get(record.user or "", NEVER).body.get("grants", ())
        revoked = [grant["id"] for grant in grants if "revoked_ms" in grant]
        truths.all_is_paid(record, amounts)
        truths.none_is_passed_over(record, amounts, self.meters(record.made.sources), revoked, self.now_ms)

    def steer(self, command: Steer | Publish) -> None:
        """Every change is the next revision."""
        outcome = self.both(command)
        if isinstance(outcome, Published):
            assert outcome.policy.revision == self.policy + (not outcome.replayed)
            self.policy = outcome.policy.revision
        if isinstance(outcome, Steered) and isinstance(command, Steer):
            known = self.profiles.get(command.user, NEVER)
            assert outcome.profile.revision == known.revision + (not outcome.replayed)
            self.profiles[command.user] = outcome.profile

    def both(self, command: Command) -> Outcome:
        """Send a command to both ledgers; they answer the same, and nothing that they told before."""
        if not isinstance(command, (Look, *READS)):
            self.last = command
        self.now_ms, self.looked_away = max(self.now_ms, self.clock()), False
        expected = self.model.execute(command)
        assert same(self.candidate(command)) == same(expected), command
        if isinstance(expected, Telling):
            self.marks |= truths.it_is_news(expected, self.marks)
        if isinstance(expected, Denied):
            truths.it_does_not_fit(expected)
        return expected

    def meters(self, legs: Any) -> tuple[MeterState, ...]:
        found = self.both(Look(tuple(legs)))
        assert isinstance(found, Meters)
        return found.states

    def some_id(self, data: st.DataObject) -> str:
        """An id that was used, mostly one of the newest; now and then any."""
        ids = list(self.ids)
        return data.draw(st.sampled_from([*ids, *ids[-3:] * 3, data.draw(drawing.IDS)]))

    def seconds(self) -> float:
        """The time of the books, which never runs backward."""
        return seconds(max(self.now_ms, self.clock()))


def run_machine(open: Callable[[Clock], Backend], mode: str, options: Any = QUICK) -> None:
    """Play many random games against fresh ledgers; raises with the shortest game that was lost."""
    machine: Any = partial(LedgerMachine, open, mode)  # hypothesis is typed for a class; it calls it, no more
    run_state_machine_as_test(machine, settings=options)
