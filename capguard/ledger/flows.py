"""Conversations with a backend, for sync and async alike: generators that yield commands and receive outcomes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from capguard.ledger.commands import Check, Command, Reserve
from capguard.ledger.outcomes import Outcome, Stale

T = TypeVar("T")
Flow = Generator[Command, Outcome, T]

REBUILDS = 2
"""How often a command that was built for another time is built again."""


def reserving(build: Callable[[int | None], Reserve], *, check_only: bool = False) -> Flow[Outcome]:
    """Reserve, building the command again for the backend's own time when it answers that ours is stale."""
    now_ms: int | None = None
    for _ in range(1 + REBUILDS):
        command = build(now_ms)
        outcome = yield Check(command) if check_only else command
        if not isinstance(outcome, Stale):
            return outcome
        now_ms = outcome.now_ms
    return outcome
