"""One worker process: a few threads that make calls when their time has come.

What is heavy is imported in the process that works, so that the others start fast.
"""

from __future__ import annotations

import logging
import time
from collections.abc import MutableSequence, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier, Event
from typing import TYPE_CHECKING

from capguard.cli.demo.traffic import Ask
from capguard.errors import BackendUnavailable, CapExceeded, CapguardError

if TYPE_CHECKING:
    from capguard.cli.demo.desk import Desk

WAITING, SERVED, BLOCKED = range(3)
"""What became of a request; one byte of shared memory each, written by one thread only."""

_THREADS = 8


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a worker gave up."""

    message: str
    backend: bool


@dataclass(frozen=True)
class Post:
    """What a worker needs to know, all of it shared between processes."""

    ledger: str
    provider: str
    outcomes: MutableSequence[int]
    ready: Barrier
    stop: Event
    troubles: SimpleQueue[Trouble]


def work(post: Post, todo: Sequence[tuple[int, Ask]]) -> None:
    """Make each call when its time has come, until all are made or the demo stops."""
    logging.getLogger("capguard").setLevel(logging.ERROR)  # the screen shows what is warned and downgraded
    try:
        _work(post, todo)
    except (CapguardError, OSError) as error:
        post.troubles.put(Trouble(f"a worker gave up: {error}", isinstance(error, BackendUnavailable)))
        post.ready.abort()  # nobody shall wait for a worker that has gone
    except BaseException:
        post.ready.abort()
        raise


def _work(post: Post, todo: Sequence[tuple[int, Ask]]) -> None:
    from capguard.cli.demo.desk import Desk

    with Desk(post.ledger, post.provider) as desk:
        post.ready.wait()
        _Shift(post, desk, time.monotonic()).run(todo)


@dataclass(frozen=True)
class _Shift:
    post: Post
    desk: Desk
    start: float

    def run(self, todo: Sequence[tuple[int, Ask]]) -> None:
        with ThreadPoolExecutor(_THREADS) as threads:
            calls = [threads.submit(self._serve, number, ask) for number, ask in todo]
        for call in calls:
            call.result()

    def _serve(self, number: int, ask: Ask) -> None:
        if self.post.stop.is_set():
            return
        time.sleep(max(0.0, self.start + ask.after_s - time.monotonic()))
        try:
            self.desk.serve(ask)
            self.post.outcomes[number] = SERVED
        except CapExceeded:
            self.post.outcomes[number] = BLOCKED
        except BaseException:
            self.post.stop.set()
            raise
