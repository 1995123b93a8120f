"""What stands in for a backend under CAPGUARD_DISABLED=1: every call passes, nothing is kept, and it says so."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from capguard.backends.base import Clock, Plain
from capguard.backends.memory import MemoryBooks
from capguard.ledger.commands import Check, Command, Reserve, Settle
from capguard.ledger.decide import carry_out
from capguard.ledger.outcomes import Made, Outcome, Record, Settled

log = logging.getLogger("capguard")

VARIABLE = "CAPGUARD_DISABLED"


def is_disabled() -> bool:
    """Whether the environment switches capguard off."""
    return os.environ.get(VARIABLE, "").strip().lower() in ("1", "true", "yes", "on")


class DisabledBackend(Plain):
    """Carries out every command on empty books, with the limits taken off, and forgets it."""

    url = "disabled://"

    def __init__(self, clock: Clock):
        self._clock = clock
        log.warning("%s is set: capguard lets every call pass, holds nothing and books nothing", VARIABLE)

    def execute(self, command: Command) -> Outcome:
        now_ms = self._clock()
        if isinstance(command, Settle):
            return Settled(_unheld(command, now_ms))
        if isinstance(command, Check):
            command = Check(_unlimited(command.reserve, now_ms))
        elif isinstance(command, Reserve):
            command = _unlimited(command, now_ms)
        return carry_out(MemoryBooks(), command, now_ms)

    async def aexecute(self, command: Command) -> Outcome:
        return self.execute(command)

    def answer_within(self, seconds: float) -> None:
        """It answers at once."""

    def seen(self) -> None:
        """Nothing outlives the process."""

    def recall(self, seen: Sequence[Any]) -> None:
        """Nothing outlives the process."""

    def weaknesses(self) -> Sequence[str]:
        return (f"{VARIABLE} is set: nothing is held and nothing booked; unset it",)

    def close(self) -> None:
        """Nothing to give back."""


def _unlimited(command: Reserve, now_ms: int) -> Reserve:
    wanted = command.candidates[0]._replace(legs=())
    return command._replace(candidates=(wanted,), valid_from=now_ms, valid_until=now_ms + 1)


def _unheld(command: Settle, now_ms: int) -> Record:
    made = Made(None, (), {}, {}, {}, {}, command.facts, "release", now_ms, 0, 0)
    return Record(command.id, "", "settled", made, (), now_ms, entry=0, booked=command.amounts)
