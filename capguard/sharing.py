"""How long replies are, shared among processes through the store: now and then, in a thread, never in a call."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import weakref

from capguard.backends.base import Backend
from capguard.errors import BackendUnavailable
from capguard.habits import Habits
from capguard.ledger.commands import Share
from capguard.ledger.outcomes import Shared

log = logging.getLogger("capguard")

EVERY_S = 60.0
TOPIC = "habits"


class Sharing:
    """Tells the other processes what this one has learned, and takes in what they have."""

    def __init__(self, backend: Backend, habits: Habits):
        self._backend, self._habits = backend, habits
        self._name = secrets.token_hex(6)
        self._starting = threading.Lock()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def soon(self) -> None:
        """There is something new. The thread that shares it lives as long as there is."""
        if self._thread is not None and self._thread.is_alive():
            return
        if self._starting.acquire(blocking=False):
            try:
                self._thread = threading.Thread(
                    target=_share, args=(weakref.ref(self), self._ending), name="capguard-habits", daemon=True
                )
                self._thread.start()
            finally:
                self._starting.release()

    def now(self) -> None:
        """Share and take in. A store that does not answer is asked again another time."""
        writer = f"{self._name}-{os.getpid()}"  # a fork tells what it has learned under a name of its own
        try:
            answer = self._backend.execute(Share(TOPIC, writer, self._habits.export()))
            assert isinstance(answer, Shared)
            self._habits.merge(answer.notes)
        except BackendUnavailable:
            log.debug("capguard: the store does not answer; what was learned is shared later")
        except ValueError as error:
            log.warning("capguard: what other processes have learned is left out: %s", error)

    def close(self) -> None:
        """Share what is left, and no more after that."""
        if self._thread is not None and not self._ending.is_set():
            self._ending.set()
            self.now()


def _share(sharing: weakref.ref[Sharing], ending: threading.Event) -> None:
    told = -1
    while (found := sharing()) is not None and found._habits.learned != told:
        told = found._habits.learned
        found.now()
        del found
        if ending.wait(EVERY_S):
            return
