"""What the backend has acknowledged lately, told once more to one that was recovered: it may have lost it."""

from __future__ import annotations

import threading
from collections import deque

from capguard.backends.base import Backend, Clock
from capguard.ledger.commands import Command, Settle
from capguard.ledger.outcomes import Held, Outcome, Record, Settled
from capguard.resilience.letters import Letter, call_of
from capguard.resilience.outbox import Outbox
from capguard.resilience.replay import Replay

REMEMBERED = 2048
"""Settled calls that a process remembers, the last ones."""


class Recent:
    """The calls that this process settled last. Each counts once under its id, however often it is told."""

    def __init__(self, backend: Backend, outbox: Outbox, replay: Replay, clock: Clock):
        self._backend, self._outbox, self._replay, self._clock = backend, outbox, replay, clock
        self.forked()

    def forked(self) -> None:
        """What its parent settled is its parent's to tell."""
        self._lock = threading.Lock()
        self._settled: deque[tuple[Settle, Record]] = deque(maxlen=REMEMBERED)
        self._renewed = self._backend.renewed
        self._telling: threading.Thread | None = None

    def note(self, command: Command, outcome: Outcome) -> None:
        """An answer of the backend."""
        if isinstance(outcome, Settled):
            if isinstance(command, Settle) and not outcome.conflict:
                self._settled.append((command, outcome.record))
        elif isinstance(outcome, Held) and outcome.record.state == "settled":
            record = outcome.record
            self._settled.append((Settle(record.id, record.booked, {}, record.made.retention_ms), record))
        if self._backend.renewed != self._renewed:
            self._tell()

    def told(self, seconds: float) -> None:
        """Wait until everything that is to be told once more is in the outbox."""
        if self._telling is not None:
            self._telling.join(seconds)

    def _tell(self) -> None:
        """Into the outbox, and from there as fast as all its letters go: not in the way of the call that came here."""
        with self._lock:
            if self._backend.renewed == self._renewed:
                return
            self._renewed = self._backend.renewed
            settled, self._settled = self._settled, deque(maxlen=REMEMBERED)
            letters = [Letter(settle, call_of(record)) for settle, record in list(settled) if self._is_known(settle)]
            self._telling = threading.Thread(target=self._post, args=(letters,), name="capguard-recent", daemon=True)
            self._telling.start()

    def _is_known(self, settle: Settle) -> bool:
        """Whether its id is remembered still: one that is not would be booked a second time, or be a dead letter."""
        dead_from_ms = settle.dead_from_ms
        return dead_from_ms is None or self._clock() < dead_from_ms

    def _post(self, letters: list[Letter]) -> None:
        for letter in letters:
            self._outbox.put(letter)
            self._replay.wake()
