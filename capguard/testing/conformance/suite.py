"""The suite: the table of cases, the machine, and races within one process."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from capguard.backends.base import Backend, Clock
from capguard.backends.memory import MemoryBackend
from capguard.ledger.commands import Look, Verify
from capguard.ledger.outcomes import Held, Meters, Verified
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import cap, reserve, settle
from capguard.testing.conformance.cases import CASES
from capguard.testing.conformance.driving import MODES, Driver, driven, same
from capguard.testing.conformance.machine import run_machine
from capguard.testing.conformance.script import Case, Wait
from capguard.testing.conformance.told import told

TEN = cap("ten", 10)
THREE_CAPS = (cap("a", 40), cap("b", 100), cap("c", 43))
"""Room for 10 calls of 4."""


class BackendConformance:
    """Subclass it with a name that pytest collects, and say how a ledger is opened."""

    def open(self, clock: Clock) -> Backend:
        """A fresh and empty ledger on this clock."""
        raise NotImplementedError(f"{type(self).__name__}.open(clock) must return a backend on an empty ledger")

    def reopen(self, clock: Clock) -> Backend | None:  # noqa: ARG002 - for subclasses
        """Another handle on the ledger that `open` gave last; None where a ledger has only one."""
        return None

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.promise)
    def test_case(self, case: Case, mode: str) -> None:
        """Every command is answered as the table says, and in every detail as the ledger in memory answers it."""
        clock = ManualClock()
        model = MemoryBackend(clock)
        with driven(self.open(clock), mode) as execute:
            _play(case, clock, model, execute)
            _looks_as_it_should(case, execute)
            if (other := self.reopen(clock)) is not None:
                with driven(other, mode) as execute_there:
                    _looks_as_it_should(case, execute_there)

    @pytest.mark.parametrize("mode", MODES)
    def test_any_commands_in_any_order(self, mode: str) -> None:
        """Random commands are answered as the ledger in memory answers them, and no cap is ever broken."""
        run_machine(self.open, mode)

    def test_threads_race_for_one_cap(self) -> None:
        """50 calls from 8 threads, room for 10: exactly 10 pass, each held on all three caps."""
        with driven(self.open(ManualClock()), "sync") as execute, ThreadPoolExecutor(8) as pool:
            calls = [reserve(f"r{n}", 4, *THREE_CAPS) for n in range(50)]
            _ten_of_fifty(list(pool.map(execute, calls)), execute)

    async def _race(self, backend: Backend) -> list[object]:
        calls = [backend.aexecute(reserve(f"r{n}", 4, *THREE_CAPS)) for n in range(50)]
        return list(await asyncio.gather(*calls))

    def test_tasks_race_for_one_cap(self) -> None:
        """50 calls from 50 tasks, room for 10: exactly 10 pass, each held on all three caps."""
        with driven(self.open(ManualClock()), "sync") as execute:
            backend = self.open(ManualClock())
            with asyncio.Runner() as runner:
                outcomes = runner.run(self._race(backend))
                _ten_of_fifty(outcomes, lambda command: runner.run(backend.aexecute(command)))
                backend.close()
            assert told(execute(Verify())) == "verified 0 entries, 0 meters, 0 open"

    def test_one_id_from_many_threads_counts_once(self) -> None:
        """The same reserve and the same settle from 8 threads at once take effect once."""
        with driven(self.open(ManualClock()), "sync") as execute, ThreadPoolExecutor(8) as pool:
            reserves = list(pool.map(execute, [reserve("r1", 4, TEN)] * 16))
            assert sorted(map(told, reserves)) == ["held"] + ["held, again"] * 15
            settles = list(pool.map(execute, [settle("r1", 3)] * 16))
            assert sorted(map(told, settles)) == ["settled 3"] + ["settled 3, again"] * 15
            assert told(execute(Look((TEN,)))) == "meters 3/0/0"
            assert told(execute(Verify())) == "verified 2 entries, 1 meters, 0 open"

    def test_a_cancelled_command_happens_whole_or_not_at_all(self) -> None:
        """Tasks cancelled at once: what landed is held on all caps, the books are right, and the ids still work."""
        clock = ManualClock()
        with asyncio.Runner() as runner:
            backend = self.open(clock)
            runner.run(_cancelled(backend))
            roomy = (cap("a"), cap("b"))
            again = [runner.run(backend.aexecute(reserve(f"r{n}", 1, *roomy))) for n in range(20)]
            assert {type(outcome) for outcome in again} == {Held}
            assert told(runner.run(backend.aexecute(Look(roomy)))) == "meters 0/20/0 0/20/0"
            assert told(runner.run(backend.aexecute(Verify()))) == "verified 20 entries, 2 meters, 20 open"
            backend.close()

    def test_a_second_handle_sees_and_does_the_same(self) -> None:
        """What one handle holds another one replays, refuses and settles."""
        clock = ManualClock()
        with driven(self.open(clock), "sync") as here:
            other = self.reopen(clock)
            if other is None:
                pytest.skip("this ledger has one handle only")
            with driven(other, "sync") as there:
                assert told(here(reserve("r1", 6, TEN))) == "held"
                assert told(there(reserve("r1", 6, TEN))) == "held, again"
                assert told(there(reserve("r2", 5, TEN))) == "denied ten:in_flight"
                assert told(there(settle("r1", 5))) == "settled 5"
                assert told(here(settle("r1", 5))) == "settled 5, again"
                assert told(here(Look((TEN,)))) == told(there(Look((TEN,)))) == "meters 5/0/0"


def _play(case: Case, clock: ManualClock, model: Backend, execute: Driver) -> None:
    for number, step in enumerate(case.steps, 1):
        if isinstance(step, Wait):
            clock.advance(seconds=step.seconds)
            continue
        command, expected = step
        outcome = execute(command)
        assert told(outcome) == expected, f"step {number}: {command}"
        assert same(outcome) == same(model.execute(command)), f"step {number}: {command}"


def _looks_as_it_should(case: Case, execute: Driver) -> None:
    """The meters are those of the table, and the journal tells the same."""
    found = execute(Look(tuple(case.ends)))
    assert isinstance(found, Meters)
    meters = dict(zip((leg.cap for leg in case.ends), found.states, strict=True))
    assert found.states == case.meters(), meters
    verified = execute(Verify())
    assert isinstance(verified, Verified)
    assert (verified.differences, verified.complete) == ((), True)


def _ten_of_fifty(outcomes: list[object], execute: Driver) -> None:
    assert sum(isinstance(outcome, Held) for outcome in outcomes) == 10
    assert told(execute(Look(THREE_CAPS))) == "meters 0/40/0 0/40/0 0/40/0"
    assert told(execute(Verify())) == "verified 10 entries, 3 meters, 10 open"


async def _cancelled(backend: Backend) -> None:
    """Start 20 reserves, and cancel every one of them after another number of turns of the loop."""
    roomy = (cap("a"), cap("b"))
    tasks = [asyncio.ensure_future(backend.aexecute(reserve(f"r{n}", 1, *roomy))) for n in range(20)]
    for turn, task in enumerate(tasks):
        await asyncio.sleep(0)
        if turn % 3:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
