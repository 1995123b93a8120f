"""What the calls of one request do, for the host that serves it: what they cost, what was refused, what is still open.

A host puts a Watch into the context; every call that is made inside reports to it, from whatever thread or task.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

from capguard.errors import CapguardError
from capguard.ledger.money import dollars
from capguard.ledger.outcomes import Outcome, Settled

if TYPE_CHECKING:
    from capguard.call import Call


class Watch:
    """The calls of one request, counted. Shared by all its threads and tasks."""

    def __init__(self) -> None:
        self.calls = 0
        self.refused: CapguardError | None = None
        self._nanos = 0
        self._streams: list[Call] = []
        self._lock = threading.Lock()

    @property
    def cost(self) -> Decimal:
        """Dollars that are booked so far. What is held and not booked yet is not in it."""
        return dollars(self._nanos)

    @property
    def open(self) -> list[Call]:
        """The calls whose streams have not ended yet."""
        with self._lock:
            self._streams = [call for call in self._streams if not call.closed]
            return list(self._streams)

    def admitted(self) -> None:
        """A call was let through: what was refused before it has been dealt with."""
        self.refused = None

    def refuses(self, error: CapguardError) -> None:
        """A call was refused, or the ledger did not answer."""
        self.refused = error

    def opened(self, call: Call) -> None:
        """A call has a stream, which books it when it ends."""
        with self._lock:
            self._streams.append(call)

    def booked(self, outcome: Outcome) -> None:
        """A call was booked, once."""
        if isinstance(outcome, Settled) and not outcome.replayed:
            with self._lock:
                self.calls += 1
                self._nanos += outcome.record.booked.get("usd", 0)


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
