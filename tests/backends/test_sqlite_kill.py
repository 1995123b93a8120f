"""kill -9 of writers (P1, P2, P4): what was acknowledged is there, the rest is whole or absent, dead holds end."""

from __future__ import annotations

import os
import random
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from capguard.backends.sqlite import SQLiteBackend
from capguard.ledger.commands import Fetch, Look, Verify
from capguard.ledger.outcomes import Found, Held, Meters, Settled, Verified
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import GRACE, TTL, cap, reserve, settle
from capguard.testing.conformance.told import told
from tests.backends.racers import CONTEXT, PATIENCE, opened

WRITERS = 3
ROUNDS = 10 * int(os.environ.get("CAPGUARD_SOAK", "1"))
CAPS = (cap("a", 10**9), cap("b", 10**9))


class Writer(NamedTuple):
    process: Any
    acknowledged: Connection


def write(path: Path, name: str, pipe: Any) -> None:
    """Reserve and settle without pause; every third call is left held. Each acknowledgement goes through the pipe."""
    backend = opened(path)
    for n in range(10**6):
        id = f"{name}-{n}"
        assert isinstance(backend.execute(reserve(id, 5, *CAPS, expected=2)), Held)
        pipe.send(("held", id))
        if n % 3:
            assert isinstance(backend.execute(settle(id, 4)), Settled)
            pipe.send(("settled", id))


def _started(path: Path, name: str) -> Writer:
    here, there = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=write, args=(path, name, there), daemon=True)
    process.start()
    there.close()
    return Writer(process, here)


def _killed_at_random(writers: list[Writer], chance: random.Random) -> list[tuple[str, str]]:
    """Read acknowledgements, and kill each writer after a random number of them, wherever it is then."""
    seen: list[tuple[str, str]] = []
    left = {writer.acknowledged: (writer, chance.randint(1, 40)) for writer in writers}
    while left:
        for ready in wait(list(left)):
            writer, more = left.pop(ready)  # type: ignore[index]
            try:
                seen.append(writer.acknowledged.recv())
            except EOFError:
                writer.process.join()
                writer.acknowledged.close()
                continue
            if more == 1:
                writer.process.kill()
            left[writer.acknowledged] = writer, more - 1  # what it had still sent is read to the end
    return seen


@pytest.mark.soak
def test_what_was_acknowledged_survives_the_kill(tmp_path: Path) -> None:
    path = tmp_path / "killed.db"
    chance = random.Random(7)
    acknowledged: list[tuple[str, str]] = []
    for number in range(ROUNDS):
        acknowledged += _killed_at_random([_started(path, f"{number}-{n}") for n in range(WRITERS)], chance)
    clock = ManualClock()
    backend = SQLiteBackend(path, clock, timeout=PATIENCE)
    _is_there(backend, acknowledged)
    _holds_of_the_dead_end(backend, clock)
    backend.close()


def _is_there(backend: SQLiteBackend, acknowledged: list[tuple[str, str]]) -> None:
    last = {id: state for state, id in acknowledged}
    assert len(last) >= WRITERS * ROUNDS
    for id, state in last.items():
        found = backend.execute(Fetch(id))
        assert isinstance(found, Found), id
        assert found.record.state in (state, "settled"), id
        assert isinstance(backend.execute(settle(id, 4)), Settled) or state == "held"


def _holds_of_the_dead_end(backend: SQLiteBackend, clock: ManualClock) -> None:
    """Whatever the writers left: after TTL and grace it stops counting at the next decisions, booked as expected."""
    before = _sound(backend)
    clock.advance(seconds=TTL + GRACE)
    for _ in range(before.open // 100 + 1):
        backend.execute(reserve("a decision", 0))
    after = _sound(backend)
    assert told(backend.execute(Look(CAPS))).endswith("/0/0")
    assert after.open == 1


def _sound(backend: SQLiteBackend) -> Verified:
    """The meters are what the entries say, in both caps alike: no reserve was half held."""
    verified, found = backend.execute(Verify()), backend.execute(Look(CAPS))
    assert isinstance(verified, Verified)
    assert isinstance(found, Meters)
    assert (verified.differences, verified.complete) == ((), True)
    assert found.states[0] == found.states[1]
    return verified
