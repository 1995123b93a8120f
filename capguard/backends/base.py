"""The contract of a backend: carry out one command atomically. The conformance suite proves that one keeps it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from capguard.ledger.commands import Command
from capguard.ledger.flows import Flow, Pause
from capguard.ledger.outcomes import Outcome

T = TypeVar("T")

Clock = Callable[[], int]
"""Milliseconds since the epoch, UTC."""

Sleep = Callable[[float], object]
AsyncSleep = Callable[[float], Awaitable[object]]


def system_clock() -> int:
    return time.time_ns() // 1_000_000


class Backend(Protocol):
    """A store that carries out commands: all of one or nothing of it, each at one instant of its own clock.

    `execute` and `aexecute` raise `BackendUnavailable` and nothing else: a refusal is an outcome. A cancelled
    `aexecute` has either not begun or is carried out to its end.
    """

    url: str
    """Where it is, without any password."""

    @property
    def renewed(self) -> int:
        """How often this process has found the store recovered from a loss: what it had acknowledged may be gone."""

    @property
    def shard_by(self) -> str:
        """The field of the identity by which the books are apart: no cap may be wider. '' where they are not."""

    def answer_within(self, seconds: float) -> None:
        """The longest that a step may take from now on; a time that its URL gives stays."""

    def execute(self, command: Command) -> Outcome: ...

    async def aexecute(self, command: Command) -> Outcome: ...

    def weaknesses(self) -> Sequence[str]:
        """What of its settings weakens a promise, each with the remedy, as far as it is known without asking."""

    def seen(self) -> Sequence[Any] | None:
        """The newest that this process has seen of the store, as JSON, for a later process to `recall`."""

    def recall(self, seen: Sequence[Any]) -> None:
        """What an earlier process of this host had seen: a store that is behind it has lost state."""

    def close(self) -> None: ...


class Plain:
    """What holds for most stores: they are in one place, and nobody recovers them while they are in use."""

    renewed = 0
    shard_by = ""


def run(flow: Flow[T], backend: Backend, sleep: Sleep = time.sleep) -> T:
    """Drive a flow against a backend."""
    try:
        command = next(flow)
        while True:
            if isinstance(command, Pause):
                sleep(command.ms / 1000)
                command = next(flow)
            else:
                command = flow.send(backend.execute(command))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        flow.close()


async def arun(flow: Flow[T], backend: Backend, sleep: AsyncSleep = asyncio.sleep) -> T:
    """Drive a flow against a backend without blocking the event loop."""
    try:
        command = next(flow)
        while True:
            if isinstance(command, Pause):
                await sleep(command.ms / 1000)
                command = next(flow)
            else:
                command = flow.send(await backend.aexecute(command))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        flow.close()
