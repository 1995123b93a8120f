"""What the calls of one request do, for the host that serves it: what they cost, what was refused, what is still open.

A host puts a Watch into the context; every call that is made inside reports to it, from whatever thread or task.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from capguard.errors import CapguardError
from capguard.ledger.money import dollars
from capguard.ledger.outcomes import Kept, Outcome, Settled

if TYPE_CHECKING:
    from capguard.call import Call
    from capguard.guard import Guard


class Watch:
    """The calls of one request, counted. Shared by all its threads and tasks."""

    def __init__(self, guard: Guard | None = None) -> None:
        self.guard = guard
        self.calls = 0
        self.refused: CapguardError | None = None
        self._nanos = 0
        self._streams: list[tuple[Call, asyncio.Task[Any] | None]] = []
        self._lock = threading.Lock()

    @property
    def cost(self) -> Decimal:
        """Dollars that are booked so far. What is held and not booked yet is not in it."""
        return dollars(self._nanos)

    def admitted(self) -> None:
        """A call was let through: what was refused before it has been dealt with."""
        self.refused = None

    def refuses(self, error: CapguardError) -> None:
        """A call was refused, or the ledger did not answer."""
        self.refused = error

    def opened(self, call: Call) -> None:
        """A call has a stream, which books it when it ends."""
        with self._lock:
            self._streams.append((call, _task()))

    def booked(self, outcome: Outcome) -> None:
        """A call was booked, once."""
        if isinstance(outcome, Kept):
            booked = outcome.amounts
        elif isinstance(outcome, Settled) and not outcome.replayed:
            booked = outcome.record.booked
        else:
            return
        with self._lock:
            self.calls += 1
            self._nanos += booked.get("usd", 0)

    async def sweep(self) -> None:
        """The request has ended: book the streams that nobody reads any more, without waiting for a garbage collector.

        A stream that a task of its own goes on reading is left to it.
        """
        with self._lock:
            left, self._streams = self._streams, []
        for call, task in left:
            if not call.closed and (task is None or task.done() or task is _task()):
                await call.afinish_stream(whole=False)


def _task() -> asyncio.Task[Any] | None:
    """The task that runs this, None in a thread without an event loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


_watch: contextvars.ContextVar[Watch | None] = contextvars.ContextVar("capguard_watch", default=None)


def watching() -> Watch | None:
    """The Watch of the current context, None where no host has put one there."""
    return _watch.get()


@contextmanager
def watched(watch: Watch) -> Iterator[Watch]:
    """Within the block, every call reports to `watch`."""
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)
