"""Ways to drive a backend: through `execute`, and through `aexecute` on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from capguard.backends.base import Backend
from capguard.ledger.commands import Command
from capguard.ledger.outcomes import Outcome

Driver = Callable[[Command], Outcome]
MODES = ("sync", "async")


@contextmanager
def driven(backend: Backend, mode: str) -> Iterator[Driver]:
    """A function that carries out one command. The backend is closed at the end."""
    if mode == "sync":
        try:
            yield backend.execute
        finally:
            backend.close()
        return
    with asyncio.Runner() as runner:
        try:
            yield lambda command: runner.run(backend.aexecute(command))
        finally:
            backend.close()


def same(outcome: Outcome) -> Any:
    """All of an outcome, comparable over backends: a store may keep lists for tuples, as JSON does."""
    return [type(outcome).__name__, *_plain(outcome)]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (tuple, list)) else value
