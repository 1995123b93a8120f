"""A case: commands in order, what each must answer, and what the meters show at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from capguard.ledger.caps import Leg, MeterState
from capguard.ledger.commands import Command
from capguard.testing.conformance.builders import cap


@dataclass(frozen=True, slots=True)
class Wait:
    """Let so many seconds pass; negative, and the clock steps back."""

    seconds: float


Step = tuple[Command, str] | Wait
Sums = tuple[int, int, int]
"""settled, held, overrun"""


@dataclass(frozen=True, slots=True)
class Case:
    """A promise in one sentence and the script that can break it."""

    promise: str
    steps: tuple[Step, ...]
    ends: Mapping[Leg, Sums] = field(default_factory=dict)

    def meters(self) -> tuple[MeterState, ...]:
        return tuple(MeterState(*sums) for sums in self.ends.values())


def wait(seconds: float) -> Wait:
    return Wait(seconds)


def case(promise: str, *steps: Step | list[Step], ends: Mapping[str | Leg, Sums] | None = None) -> Case:
    """`ends` names the meter of a cap, in usd per day for u1, by the cap's id; any other meter by its leg."""
    meters = {cap(each) if isinstance(each, str) else each: sums for each, sums in (ends or {}).items()}
    flat = [each for step in steps for each in (step if isinstance(step, list) else [step])]
    return Case(promise, tuple(flat), meters)
