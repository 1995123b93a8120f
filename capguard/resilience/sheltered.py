"""A backend that may be away: asked while it answers, stood in for while it does not, told everything afterwards."""

from __future__ import annotations

import asyncio
import atexit
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from capguard.backends.base import Backend, Clock
from capguard.errors import BackendUnavailable
from capguard.lastknown import LastKnown
from capguard.ledger.commands import Check, Command, Extend, Fetch, Release, Reserve, Settle
from capguard.ledger.outcomes import Denied, Found, Held, Kept, Mismatch, Outcome, Record, Released
from capguard.resilience.contact import Contact, Told
from capguard.resilience.letters import Letter, call_of
from capguard.resilience.offline import OfflineLedger
from capguard.resilience.outbox import Outbox
from capguard.resilience.recent import Recent
from capguard.resilience.replay import Replay

AT_EXIT_S = 2.0
"""How long the interpreter's exit waits for what is left to deliver. The rest stays on disk."""

REMEMBERED = 16_384
"""Calls in flight that a process can book by itself, should the backend lose them."""

_OF_ONE_CALL = (Reserve, Settle, Release, Extend)
_WRITING = (Reserve, Settle, Release)


class Sheltered:
    """The contract of a backend, kept on a backend that is away.

    Settles and releases are then kept on this host's disk and delivered later; reserves are let through within what
    their policy says, or raise BackendUnavailable, as everything else does. `told` hears when it goes away and is back,
    `delivered` what came of every letter.
    """

    def __init__(
        self,
        backend: Backend,
        folder: Path,
        clock: Clock,
        copy: LastKnown,
        *,
        told: Told | None = None,
        delivered: Callable[[Letter, Outcome], None] | None = None,
    ):
        self.backend, self.url = backend, backend.url
        self.contact = Contact(backend.url, told)
        self.outbox = Outbox(folder)
        self._offline = OfflineLedger(clock)
        self._told = delivered or _nobody
        self._replay = Replay(self.outbox, backend, self.contact, clock, self._delivered, self._emptied)
        self._recent = Recent(backend, self.outbox, self._replay, clock)
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._copy = copy
        self._met = False
        if (seen := copy.seen()) is not None:
            backend.recall(seen)
        copy.watch(backend.seen)
        _living.add(self)
        if any(folder.glob("slot-*.outbox")):
            self._replay.wake()

    def answer_within(self, seconds: float) -> None:
        self.backend.answer_within(seconds)

    def execute(self, command: Command) -> Outcome:
        """Ask the backend, or stand in for it. Raises BackendUnavailable."""
        if isinstance(command, Fetch) and (record := self._records.get(command.id)) is not None:
            return Found(record)  # of a call in flight, nothing that its end needs can change
        why = self._kept_from(command)
        asked = why is None
        if why is None:
            try:
                outcome = self.backend.execute(command)
            except BackendUnavailable as error:
                self.contact.failed(error)
                why = error
            except BaseException:
                self._interrupted(command)
                raise
            else:
                self._answered(command, outcome)
                return outcome
        return self._alone(command, why, asked)

    async def aexecute(self, command: Command) -> Outcome:
        """As `execute`, without blocking the event loop, not even for the disk."""
        if isinstance(command, Fetch) and (record := self._records.get(command.id)) is not None:
            return Found(record)  # of a call in flight, nothing that its end needs can change
        why = self._kept_from(command)
        asked = why is None
        if why is None:
            try:
                outcome = await self.backend.aexecute(command)
            except BackendUnavailable as error:
                self.contact.failed(error)
                why = error
            except BaseException:
                self._interrupted(command)
                raise
            else:
                self._answered(command, outcome)
                return outcome
        if not isinstance(command, _WRITING):
            return self._alone(command, why, asked)
        writing = asyncio.get_running_loop().run_in_executor(None, self._alone, command, why, asked)
        return await asyncio.shield(writing)

    def seen(self) -> Sequence[Any] | None:
        return self.backend.seen()

    def recall(self, seen: Sequence[Any]) -> None:
        self.backend.recall(seen)

    @property
    def renewed(self) -> int:
        return self.backend.renewed

    @property
    def shard_by(self) -> str:
        return self.backend.shard_by

    def weaknesses(self) -> Sequence[str]:
        return self.backend.weaknesses()

    def flush(self, seconds: float) -> bool:
        """Deliver what is left, for so long at most. Whether nothing is."""
        self._recent.told(seconds)
        return self._replay.drain(seconds, patient=True)

    def leave(self) -> None:
        """Deliver what is left, for two seconds at most. What is on disk is left there if nobody answers."""
        self._recent.told(AT_EXIT_S)
        if self.outbox:
            self._replay.drain(AT_EXIT_S, patient=self.outbox.unwritten)

    def close(self) -> None:
        """Deliver what is left, as at exit, and give the backend's connections back."""
        self.leave()
        self._replay.close()
        self.outbox.close()
        self.backend.close()
        _living.discard(self)

    def _kept_from(self, command: Command) -> BackendUnavailable | None:
        """Why the backend is not to be asked: it is away, or what was said of this call before waits still."""
        if self.outbox.waits and isinstance(command, _OF_ONE_CALL) and command.id in self.outbox:
            return BackendUnavailable(f"{command.id} waits to be told to {self.url}")
        return None if self.contact.lets() else BackendUnavailable(f"{self.url} is away: {self.contact.why}")

    def _answered(self, command: Command, outcome: Outcome) -> None:
        self.contact.answered()
        if not self._met:
            self._met = True
            self._copy.soon()
        if isinstance(outcome, Held):
            if outcome.record.state == "held" and isinstance(command, Reserve):
                self._remember(outcome.record)
        elif isinstance(command, Settle | Release):
            self._records.pop(command.id, None)
        self._recent.note(command, outcome)
        if self.outbox.waits:
            self._replay.wake()

    def _interrupted(self, command: Command) -> None:
        """By a signal, or as the event loop ends. Whether it was carried out is not known: what ends a call is kept."""
        self.contact.given_up()
        if isinstance(command, Settle | Release):
            self._alone(command, BackendUnavailable(f"{self.url}: interrupted"), True)

    def _alone(self, command: Command, why: BackendUnavailable, asked: bool) -> Outcome:
        """What a command comes to without the backend."""
        match command:
            case Reserve():
                return self._admit(command, why, asked)
            case Check(reserve) if reserve.offline is not None:
                return self._decided(self._offline.decide(reserve, check=True)[0], why)
            case Settle():
                return self._keep_settle(command)
            case Release():
                self.outbox.put(Letter(command))
                self._replay.wake()
                return Released(command.id, changed=True)
        raise why

    def _admit(self, command: Reserve, why: BackendUnavailable, asked: bool) -> Outcome:
        """Let a call through within its policy's limits, or see to it that nothing stays held for it."""
        try:
            return self._let_through(command, why)
        except BackendUnavailable:
            if asked:  # it may have been held there after all, or will be when the backend comes to it
                self._alone(Release(command.id, command.retention_ms), why, False)
            raise

    def _let_through(self, command: Reserve, why: BackendUnavailable) -> Outcome:
        """Decide by what may be spent without the backend, and write down what is let through before it is made."""
        if command.offline is None:
            raise why
        try:
            for debt in self.outbox.take():
                self._offline.owe(debt)
            decided, call = self._offline.decide(command)
            outcome = self._decided(decided, why)
            if isinstance(outcome, Held) and not outcome.replayed:
                self.outbox.admit(call)
                self._remember(outcome.record)
                if call.book:
                    self._keep_settle(Settle(call.id, outcome.record.made.held, {}, call.retention_ms))
        except OSError as error:
            raise BackendUnavailable(f"{why}; no call can be let through unwritten: {error}") from why
        return outcome

    def _decided(self, outcome: Held | Denied | Mismatch, why: BackendUnavailable) -> Held | Mismatch:
        if isinstance(outcome, Denied):
            caps = ", ".join(dict.fromkeys(miss.leg.cap for miss in outcome.refused))
            raise BackendUnavailable(f"{why}; what may be spent without it is used up: {caps}") from why
        return outcome

    def _keep_settle(self, command: Settle) -> Kept:
        call = self.outbox.admitted(command.id)
        record = self._records.pop(command.id, None)
        if call is not None:
            self._offline.exceeded(call, command.amounts)
        elif record is not None:
            call = call_of(record)
        durable = self.outbox.put(Letter(command, call))
        self._replay.wake()
        return Kept(command.id, command.amounts, command.facts, durable)

    def _delivered(self, letter: Letter, outcome: Outcome) -> None:
        self._recent.note(letter.command, outcome)
        self._told(letter, outcome)

    def _emptied(self) -> None:
        """The backend knows everything that was let through: what may be, while it is away, begins anew."""
        if not self.outbox.waits:
            self._offline.begin()

    def _remember(self, record: Record) -> None:
        self._records[record.id] = record
        if len(self._records) > REMEMBERED:
            self._records.popitem(last=False)

    def _after_fork(self) -> None:
        """A child has none of its parent's threads, and none of its letters."""
        self.outbox.forked()
        self.contact.forked()
        self._replay.reset()
        self._recent.forked()
        self._offline.begin()
        self._records.clear()


def _nobody(*_: object) -> None:
    """Hears nothing."""


_living: weakref.WeakSet[Sheltered] = weakref.WeakSet()


def _drain() -> None:
    for each in list(_living):
        each.leave()


def _forked() -> None:
    for each in list(_living):
        each._after_fork()


atexit.register(_drain)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
