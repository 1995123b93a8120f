"""The runs that are open: reserved and not booked yet. Whichever end comes first books a run, also its being dropped.

LangChain tells no end of a call that was cancelled, whose neighbour in a batch was refused, or that another handler
stopped. But then its run manager is gone, and with it the run id that only the manager holds: a weak reference to that
id tells. It may tell from inside the garbage collector, wherever that runs, so a thread of its own does the booking.
Where the manager is kept by a traceback, the end of the task that was cancelled tells.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from capguard.call import Call
from capguard.dropped import later
from capguard.identity import leave_call
from capguard.integrations.langchain import replies
from capguard.pricing.responses import read_usage
from capguard.pricing.stream import StreamReader
from capguard.pricing.usage import Usage

Key = tuple[int, int]
"""A run and the Guard that it is reserved with: each Guard books a run once, however many handlers are told of it."""

OPEN: dict[Key, Run] = {}


class Run:
    """One call to a model, from its start to whichever end. `place` is that of its prompt in its `generate`."""

    def __init__(self, key: Key, run_id: UUID, call: Call, owner: object, params: Mapping[str, Any], place: int):
        self.call = call
        self.owner = owner
        self.params = params  # one object for all prompts of a `generate`, by which they know each other
        self.place = place
        self._key = key
        self._reader: StreamReader | None = None
        self._was_sent = True
        self._told_by_first = False
        self._vanished = weakref.ref(run_id, lambda _: later(lambda: drop(key)))
        task = _current_task()
        # weakly: a task keeps the stream that it began, and with it the run's id
        self._task = None if task is None else weakref.ref(task)
        if task is not None:
            task.add_done_callback(self._task_ended)

    def feed(self, piece: Any) -> None:
        """A piece of the reply, as it passed."""
        if self._reader is None:
            self._reader = self.call.read_along()
        self._reader.feed(piece)
        self.call.passed()

    def end(self, response: Any) -> None:
        """Book by what the reply reports, else by its text. Text models report all prompts' usage with the first."""
        usage = read_usage(response)
        if self._told_by_first and usage is None:
            self.call.settle(usage=Usage())
        elif usage is not None and self.place == 0:
            for run in self._others():
                run._told_by_first = True
        if not self.call.recorded:  # else a layer below has booked it
            replies.record(self.call, response, usage, self._reader)
        self.call.finish()

    def fail(self, error: BaseException) -> None:
        """Book or release, as far as the error and what passed before it tell."""
        for run in self._others():
            run._was_sent = run.place < self.place  # prompts are sent in turn; where not, each has an end of its own
        self.call.finish(error)

    def drop(self) -> None:
        """Nobody will tell how it ended."""
        if not self._was_sent:
            self.release()
        elif self._reader is not None:
            self.call.finish_stream(whole=False)
        else:
            self.call.finish()

    def release(self) -> None:
        """It was not sent."""
        self.call.release()
        self.call.finish()

    def closed(self) -> None:
        """Nothing more to wait for."""
        leave_call(self.call)
        if self._task is not None and (task := self._task()) is not None:
            task.remove_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        """A generator that was begun in this task may live on in another, but not where the task was cancelled."""
        if task.cancelled():
            drop(self._key)

    def _others(self) -> Iterator[Run]:
        return (run for run in list(OPEN.values()) if run.params is self.params and run is not self)


def take(key: Key) -> Run | None:
    """The open run, which whoever takes it books; None for one that is booked already."""
    run = OPEN.pop(key, None)
    if run is not None:
        run.closed()
    return run


def drop(key: Key) -> None:
    """Book a run that vanished, if it is still open."""
    if (run := take(key)) is not None:
        run.drop()


def refuse(params: Mapping[str, Any]) -> None:
    """One prompt of a `generate` was refused: LangChain sends none of them."""
    for key in [key for key, run in list(OPEN.items()) if run.params is params]:
        if (run := take(key)) is not None:
            run.release()


def is_told(key: Key, params: Mapping[str, Any] | None) -> bool:
    """Whether another handler of the same Guard was told of this very start: LangChain gives all the same `params`."""
    run = OPEN.get(key)
    return run is not None and (params is None or run.params is params)


def told_of(run_id: UUID, params: Mapping[str, Any]) -> Run | None:
    """The open run of this very start, which a handler of another Guard was told of."""
    return next((run for key, run in list(OPEN.items()) if key[0] == run_id.int and run.params is params), None)


def place_in_batch(params: Mapping[str, Any], guard: object) -> int:
    """How many prompts of the same `generate` are open before this one."""
    return sum(run.params is params for key, run in list(OPEN.items()) if key[1] == id(guard))


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None
