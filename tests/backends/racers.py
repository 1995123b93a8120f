"""Processes that race for the caps of one file: what each of them does, in a module that they can import."""

from __future__ import annotations

import asyncio
import multiprocessing as mp
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

from capguard.backends.sqlite import SQLiteBackend
from capguard.ledger.commands import Look
from capguard.ledger.outcomes import Denied, Held, Outcome
from capguard.testing.conformance.builders import START_MS, cap, release, reserve, settle

PROCESSES = 8
TASKS = 50
ESTIMATE = 7
PATIENCE = 60.0
"""Seconds that a writer waits for its turn: far more than any machine needs."""

CONTEXT = mp.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [__name__, "tests.backends.redis_racers"]
)  # the imports once: the processes share nothing else
CAPS = (cap("wide", 10_000), cap("tight", 205), cap("middle", 900))
"""Room for 29 calls of 7 and 2 parts more."""

ROOM = 205 // ESTIMATE


class Told(NamedTuple):
    """What one process saw."""

    held: tuple[str, ...]
    denied: int
    others: int


def clock() -> int:
    return START_MS


def opened(path: Path) -> SQLiteBackend:
    return SQLiteBackend(path, clock, timeout=PATIENCE)


def in_turn(path: Path, number: int, barrier: Barrier) -> Told:
    """One call after the other, until 10 were made."""
    backend = opened(path)
    barrier.wait()
    outcomes = [backend.execute(reserve(f"p{number}-{n}", ESTIMATE, *CAPS)) for n in range(10)]
    backend.close()
    return told(outcomes)


def at_once(path: Path, number: int, barrier: Barrier) -> Told:
    """50 tasks of one event loop."""
    backend = opened(path)

    async def gathered() -> list[Outcome]:
        calls = [backend.aexecute(reserve(f"p{number}-{n}", ESTIMATE, *CAPS)) for n in range(TASKS)]
        return await asyncio.gather(*calls)

    barrier.wait()
    outcomes = asyncio.run(gathered())
    backend.close()
    return told(outcomes)


def same_ids(path: Path, number: int, barrier: Barrier) -> Told:
    """Every process sends the same ten reserves and settles, and releases the odd ones too late."""
    backend = opened(path)
    barrier.wait()
    outcomes = []
    for n in range(10):
        outcomes.append(backend.execute(reserve(f"shared-{n}", ESTIMATE, *CAPS)))
        backend.execute(settle(f"shared-{n}", ESTIMATE - 1))
        backend.execute(release(f"shared-{n}"))
    backend.close()
    return told(outcomes)


def without_pause(path: Path, number: int, barrier: Barrier) -> int:
    """Writes as fast as it can until every process has made 20 calls; gives how many it made itself."""
    backend = opened(path)
    barrier.wait()
    made = 0
    own = cap("own", 10**9, who=f"p{number}")
    while made < 20 or not everybody_has(backend, 20):
        made += 1
        backend.execute(reserve(f"p{number}-{made}", 1, own, ttl=10**6))
    backend.close()
    return made


def everybody_has(backend: SQLiteBackend, count: int) -> bool:
    found: Any = backend.execute(Look(tuple(cap("own", who=f"p{number}") for number in range(PROCESSES))))
    return all(meter.held >= count for meter in found.states)


def told(outcomes: Sequence[Outcome]) -> Told:
    held = tuple(each.record.id for each in outcomes if isinstance(each, Held) and not each.replayed)
    denied = sum(isinstance(each, Denied) for each in outcomes)
    return Told(held, denied, len(outcomes) - len(held) - denied)


def race(racer: Callable[..., Any], path: Path) -> list[Any]:
    """What each of the processes, all of them started together, gives back."""
    barrier = CONTEXT.Barrier(PROCESSES)
    with _processes(racer, path, barrier) as pipes:
        return [pipe.recv() for pipe in pipes]


@contextmanager
def _processes(racer: Callable[..., Any], path: Path, barrier: Barrier) -> Any:
    pipes, processes = [], []
    for number in range(PROCESSES):
        here, there = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_run, args=(racer, path, number, barrier, there), daemon=True)
        process.start()
        there.close()  # so that a process that dies is an EOFError here, not a hang
        pipes.append(here)
        processes.append(process)
    try:
        yield pipes
    finally:
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.close()
            process.join()
            process.close()


def _run(racer: Callable[..., Any], path: Path, number: int, barrier: Barrier, pipe: Any) -> None:
    pipe.send(racer(path, number, barrier))
    pipe.close()
