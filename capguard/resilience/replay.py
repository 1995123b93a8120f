"""Delivering what waits in the outbox, in a thread of its own that lives as long as there is something to deliver."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from capguard.backends.base import Backend, Clock, run
from capguard.errors import BackendUnavailable
from capguard.ledger.commands import Look, Settle
from capguard.ledger.flows import Flow
from capguard.ledger.outcomes import Mismatch, Outcome, Unknown
from capguard.resilience.contact import Contact
from capguard.resilience.letters import Letter
from capguard.resilience.outbox import Outbox, ended
from capguard.resilience.rebooking import delivering

log = logging.getLogger("capguard")

PER_SECOND = 200
"""Letters that one process delivers at most, so that a backend that has just come back is not run down again."""

_LOOK_S = 0.05


class Replay:
    """Takes letters to the backend while the breaker lets it, first those of this process, then those of dead ones."""

    def __init__(
        self,
        outbox: Outbox,
        backend: Backend,
        contact: Contact,
        clock: Clock,
        told: Callable[[Letter, Outcome], None],
        emptied: Callable[[], None],
    ):
        self._outbox, self._backend, self._contact, self._clock = outbox, backend, contact, clock
        self._told, self._emptied = told, emptied
        self.reset()

    def reset(self) -> None:
        """Begin anew: a fork has no thread but the one that forked."""
        self._delivering = threading.Lock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def wake(self) -> None:
        """See to it that what waits is delivered as soon as the backend answers."""
        with self._starting:
            if self._closing.is_set() or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._until_empty, name="capguard-replay", daemon=True)
            self._thread.start()

    def drain(self, seconds: float, *, patient: bool) -> bool:
        """Deliver now, for so long at most. Whether nothing is left of this process.

        Without patience it leaves it at the first letter that is not answered.
        """
        ends = time.monotonic() + seconds
        while self._outbox and time.monotonic() < ends:
            if not self._deliver_all(ends):
                if not patient and self._contact.failing:
                    break
                time.sleep(min(_LOOK_S, max(0.0, ends - time.monotonic())))
        return not self._outbox

    def close(self) -> None:
        self._closing.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=1)

    def _until_empty(self) -> None:
        while not self._closing.is_set():
            away = self._contact.state == "open"
            if (
                not away
                and self._deliver_all()
                and self._answers()
                and self._deliver_left_behind()
                and not self._outbox
            ):
                return
            self._closing.wait(_LOOK_S)

    def _deliver_all(self, ends: float | None = None) -> bool:
        """Deliver what this process has; False where the backend does not answer."""
        with self._turn() as ours:
            while ours and not self._closing.is_set() and (post := self._outbox.first()) is not None:
                if (ends is not None and time.monotonic() >= ends) or not self._delivered(post.letter):
                    return False
                self._outbox.delivered(post)
                self._emptied()
                self._closing.wait(1 / PER_SECOND)
            return ours

    def _deliver_left_behind(self) -> bool:
        """Deliver what dead processes of this host have left; False where the backend does not answer."""
        for slot in self._outbox.left_behind():
            try:
                for number, letter in list(slot.waiting.items()):
                    if self._closing.is_set() or not self._delivered(ended(letter)):
                        return False
                    slot.done(number)
                    self._closing.wait(1 / PER_SECOND)
            except OSError as error:
                log.warning("capguard: %s", error)
            finally:
                slot.close()
        return True

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """One thread of this process delivers at a time."""
        ours = self._delivering.acquire(blocking=False)
        try:
            yield ours
        finally:
            if ours:
                self._delivering.release()

    def _delivered(self, letter: Letter) -> bool:
        """Tell the backend one letter. False where it does not answer. One that it chokes on stops no other."""
        try:
            outcome = self._asked(delivering(letter, self._clock()))
        except Exception:
            log.exception("capguard: %s cannot be delivered; it is put aside in %s", letter.id, self._outbox.folder)
            self._outbox.put_aside(letter)
            return True
        if outcome is None:
            return False
        if isinstance(outcome, Unknown | Mismatch) and isinstance(letter.command, Settle):
            kept = f"; entry {outcome.entry} keeps it" if isinstance(outcome, Unknown) and outcome.entry else ""
            log.error("capguard: %s could not be booked (%s)%s", letter.command, type(outcome).__name__, kept)
        self._told(letter, outcome)
        return True

    def _answers(self) -> bool:
        """Whether the backend is there: until then, what dead processes have left is theirs who take it over."""
        return self._asked(_looking()) is not None

    def _asked(self, flow: Flow[Outcome]) -> Outcome | None:
        if not self._contact.lets():
            return None
        try:
            outcome = run(flow, self._backend)
        except BackendUnavailable as error:
            self._contact.failed(error)
            return None
        except BaseException:
            self._contact.given_up()
            raise
        self._contact.answered()
        return outcome


def _looking() -> Flow[Outcome]:
    return (yield Look(()))
