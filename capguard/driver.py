"""What the verbs of a Guard have in common: they drive flows against its backend, learn, and tell what happened."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar

from capguard import notices
from capguard.backends.base import Backend, Clock, arun, run
from capguard.events import Observers
from capguard.identity import checked_name
from capguard.knowledge import Knowledge
from capguard.ledger.commands import Command, PolicyInForce, Profile, Settle
from capguard.ledger.flows import Flow
from capguard.ledger.outcomes import Outcome, Published, Revised, Steered
from capguard.sharing import Sharing

T = TypeVar("T")


class Driver:
    """A backend, what is known of the policy in force, and who is told."""

    _backend: Backend
    _clock: Clock
    _knowledge: Knowledge
    _observers: Observers
    _sharing: Sharing | None

    def now_ms(self) -> int:
        """Milliseconds since the epoch, by the clock of this Guard."""
        return self._clock()

    def carry_out(self, command: Command) -> Outcome:
        """One command, one outcome."""
        outcome = self._backend.execute(command)
        self._tell_booking(command, outcome)
        return outcome

    async def acarry_out(self, command: Command) -> Outcome:
        """As `carry_out`, without blocking the event loop."""
        outcome = await self._backend.aexecute(command)
        self._tell_booking(command, outcome)
        return outcome

    def _run(self, flow: Flow[T]) -> T:
        return run(flow, self._backend, getattr(self._clock, "sleep", time.sleep))

    async def _arun(self, flow: Flow[T]) -> T:
        return await arun(flow, self._backend, getattr(self._clock, "asleep", asyncio.sleep))

    def _learning(self, user: str | None) -> Flow[None]:
        """Read what holds now: the user's profile, and the published policy where that is the one in force."""
        if user is not None:
            profile = yield Profile(checked_name(user, "user"))
            assert isinstance(profile, Steered)
            self._knowledge.learn_profile(user, profile.profile)
        if self._knowledge.revision is not None:
            policy = yield PolicyInForce()
            if isinstance(policy, Published):
                self._knowledge.learn_policy(policy.policy)

    def _changed(self, kind: str, revised: Revised, user: str | None) -> None:
        notices.tell(self._observers, notices.of_change(kind, revised, user, self._clock()))

    def _tell_crossed(self, outcome: Outcome) -> None:
        notices.tell(self._observers, notices.of_crossings(outcome, self._clock()))

    def _tell_booking(self, command: Command, outcome: Outcome) -> None:
        self._tell_crossed(outcome)
        if isinstance(command, Settle):
            if self._knowledge.learn_length(command, outcome) and self._sharing is not None:
                self._sharing.soon()
            flags = command.facts.get("flags", ())
            notices.tell(self._observers, notices.of_settle(outcome, flags, self._clock()))
