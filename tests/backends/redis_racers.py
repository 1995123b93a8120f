"""Processes that race for the caps of one namespace: what each of them does, in a module that they can import."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple

from capguard.backends.redis import RedisBackend
from capguard.errors import BackendUnavailable
from capguard.ledger.commands import Command, Look
from capguard.ledger.outcomes import Denied, Held, Meters, Outcome
from capguard.testing.conformance.builders import START_MS, cap, reserve, settle
from tests.backends.racers import CONTEXT, ESTIMATE, PROCESSES, TASKS

PATIENCE = 5.0
"""Seconds that a step waits."""

CAPS = (cap("wide", 10_000), cap("tight", 205), cap("middle", 900))
ROOM = 205 // ESTIMATE


class Where(NamedTuple):
    """A namespace on a server, as a process is told of it."""

    url: str
    namespace: str
    deadline: float = PATIENCE

    def open(self) -> RedisBackend:
        return RedisBackend(self.url, namespace=self.namespace, clock=clock, deadline=self.deadline)


class Told(NamedTuple):
    """What one process saw: ids that it was told are held, how often it was refused, how often there was no answer."""

    held: tuple[str, ...]
    denied: int
    unanswered: int


def clock() -> int:
    return START_MS


def at_once(where: Where, number: int, barrier: Barrier) -> Told:
    """50 tasks of one event loop, each of which asks with its id until it is answered."""
    backend = where.open()

    async def gathered() -> tuple[list[Outcome], int]:
        tries = [_answered(backend, reserve(f"p{number}-{n}", ESTIMATE, *CAPS)) for n in range(TASKS)]
        found = await asyncio.gather(*tries)
        return [outcome for outcome, _ in found], sum(lost for _, lost in found)

    barrier.wait()
    outcomes, unanswered = asyncio.run(gathered())
    backend.close()
    held = tuple(each.record.id for each in outcomes if isinstance(each, Held))
    return Told(held, sum(isinstance(each, Denied) for each in outcomes), unanswered)


async def _answered(backend: RedisBackend, command: Command) -> tuple[Outcome, int]:
    for lost in range(1000):
        try:
            return await backend.aexecute(command), lost
        except BackendUnavailable:
            await asyncio.sleep(random.uniform(0.01, 0.05))
    raise AssertionError(f"{command} was never answered")


def sent(backend: RedisBackend, command: Command) -> Outcome:
    """Sent until it is answered, with its id."""
    for _ in range(1000):
        try:
            return backend.execute(command)
        except BackendUnavailable:
            time.sleep(0.02)
    raise AssertionError(f"{command} was never answered")


def write(where: Where, name: str, pipe: Any) -> None:
    """Reserve and settle without pause; every third call is left held. Each acknowledgement goes through the pipe."""
    backend = where.open()
    for n in range(10**6):
        id = f"{name}-{n}"
        if isinstance(sent(backend, reserve(id, ESTIMATE, *CAPS, expected=2)), Held):
            pipe.send(("held", id))
            if n % 3:
                sent(backend, settle(id, ESTIMATE - 3))
                pipe.send(("settled", id))
        else:
            pipe.send(("denied", id))


def race(where: Where) -> list[Told]:
    """What each of the processes, all of them started together, gives back."""
    barrier = CONTEXT.Barrier(PROCESSES)
    pipes, processes = [], []
    for number in range(PROCESSES):
        here, there = CONTEXT.Pipe(duplex=False)
        processes.append(CONTEXT.Process(target=_run, args=(where, number, barrier, there), daemon=True))
        processes[-1].start()
        there.close()
        pipes.append(here)
    try:
        return [pipe.recv() for pipe in pipes]
    finally:
        for process in processes:
            process.join()
            process.close()
        for pipe in pipes:
            pipe.close()


def _run(where: Where, number: int, barrier: Barrier, pipe: Any) -> None:
    pipe.send(at_once(where, number, barrier))
    pipe.close()


@contextmanager
def sampling(where: Where) -> Iterator[list[Meters]]:
    """What the meters show, as fast as they can be read, for as long as the block lasts."""
    samples: list[Meters] = []

    def sample(over: threading.Event) -> None:
        backend = where.open()
        while not over.is_set():
            try:
                found = backend.execute(Look(CAPS))
            except BackendUnavailable:
                continue
            assert isinstance(found, Meters)
            samples.append(found)
        backend.close()

    with _thread(sample):
        yield samples


@contextmanager
def meanwhile(act: Callable[[], object], pause: float, most: int) -> Iterator[list[object]]:
    """Do this again and again as long as the block lasts, but not more often than `most`."""
    done: list[object] = []

    def act_on(over: threading.Event) -> None:
        while len(done) < most and not over.wait(pause):
            done.append(act())

    with _thread(act_on):
        yield done


@contextmanager
def _thread(run: Callable[[threading.Event], None]) -> Iterator[None]:
    over = threading.Event()
    thread = threading.Thread(target=run, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
