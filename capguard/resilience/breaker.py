"""When to ask a backend that has failed, and when to leave it alone."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half-open"]

IN_A_ROW = 5
"""Failures in a row that open it."""

WINDOW_S = 10.0
"""More than half of the steps that failed within so long open it as well."""

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
"""How long it stays open before a probe: doubled from one to the other, each time by half to one and a half."""


class Breaker:
    """Closed while the backend answers. Open, it lets one step at a time through as a probe, in growing intervals.

    Whoever is let through says how it went: `answered`, `failed`, or `given_up` where nobody will ever know.
    `monotonic` gives seconds, `chance` a number in [0, 1).
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random):
        self._monotonic, self._chance = monotonic, chance
        self.reset()

    def reset(self) -> None:
        """Closed, as if nothing had happened."""
        self._lock = threading.Lock()
        self._retry_at: float | None = None
        self._wait = FIRST_WAIT_S
        self._probing = False
        self._in_a_row = 0
        self._since, self._failures, self._answers = 0.0, 0, 0

    @property
    def state(self) -> State:
        if self._retry_at is None:
            return "closed"
        return "half-open" if self._probing or self._monotonic() >= self._retry_at else "open"

    def lets(self) -> bool:
        """Whether a step may be tried now."""
        return self._retry_at is None or self._probes()

    def answered(self) -> bool:
        """The backend has answered. True where it had been away."""
        self._in_a_row = 0
        self._answers += 1
        if self._retry_at is None:
            return False
        with self._lock:
            was_away = self._retry_at is not None
            self._retry_at, self._probing, self._wait = None, False, FIRST_WAIT_S
            return was_away

    def failed(self) -> bool:
        """The backend has not answered. True where that opens the breaker."""
        with self._lock:
            if self._retry_at is not None:
                if self._probing:
                    self._wait = min(self._wait * 2, LONGEST_WAIT_S)
                    self._open()
                return False
            now = self._monotonic()
            if now - self._since > WINDOW_S:
                self._since, self._failures, self._answers = now, 0, 0
            self._in_a_row += 1
            self._failures += 1
            often = self._failures >= IN_A_ROW and self._failures > self._answers
            if self._in_a_row < IN_A_ROW and not often:
                return False
            self._open()
            return True

    def given_up(self) -> None:
        """The step was cancelled: if it was the probe, another one may be."""
        self._probing = False

    def _probes(self) -> bool:
        with self._lock:
            if self._retry_at is None:
                return True
            if self._probing or self._monotonic() < self._retry_at:
                return False
            self._probing = True
            return True

    def _open(self) -> None:
        self._probing = False
        self._retry_at = self._monotonic() + self._wait * (0.5 + self._chance())
