"""Whether the backend answers: the breaker, why it opened, and who is told when that changes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from capguard.errors import BackendUnavailable
from capguard.resilience.breaker import Breaker, State

log = logging.getLogger("capguard")

Change = Literal["backend_away", "backend_back"]
Told = Callable[[Change, str], None]


class Contact:
    """What is known of the way to one backend. Whoever asks it says here how that went."""

    def __init__(self, url: str, told: Told | None = None, breaker: Breaker | None = None):
        self.why = ""
        self._url, self._told = url, told
        self._breaker = Breaker() if breaker is None else breaker

    @property
    def state(self) -> State:
        return self._breaker.state

    @property
    def failing(self) -> bool:
        """Whether the last step was not answered."""
        return bool(self.why)

    def lets(self) -> bool:
        """Whether the backend may be asked now."""
        return self._breaker.lets()

    def answered(self) -> None:
        back, why = self._breaker.answered(), self.why
        if why:
            self.why = ""
        if back:
            log.warning("capguard: %s is back", self._url)
            self._tell("backend_back", why)

    def failed(self, error: BackendUnavailable) -> None:
        if not self.why:
            log.warning("capguard: %s does not answer: %s", self._url, error)
        self.why = str(error)
        if self._breaker.failed():
            log.error("capguard: %s is away and left alone for a while: %s", self._url, error)
            self._tell("backend_away", self.why)

    def given_up(self) -> None:
        """Nobody will ever know."""
        self._breaker.given_up()

    def forked(self) -> None:
        """Begin anew in a child."""
        self._breaker.reset()
        self.why = ""

    def _tell(self, change: Change, why: str) -> None:
        if self._told is not None:
            self._told(change, why)
