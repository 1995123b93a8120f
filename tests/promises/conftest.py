"""Fixtures of the named tests: a backend that counts and can be away, and two processes on one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from capguard import BackendUnavailable, Guard
from capguard.backends.memory import MemoryBackend
from capguard.plugins import hookimpl
from capguard.plugins.manager import plugin_manager
from capguard.testing import ManualClock


class Watched:
    """`watched://`: the ledger in memory behind a door.

    `asked` are the commands that came; those in `away` are not carried out, those in `unheard` are and not answered.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away: set[str] = set()
        self.unheard: set[str] = set()

    @hookimpl
    def capguard_backend(self, url: str, namespace: str, clock: Any) -> Any:
        return Door(self, MemoryBackend(clock)) if url.startswith("watched://") else None


class Door:
    """What a Guard holds instead of the backend itself."""

    url = "watched://"
    renewed, shard_by = 0, ""

    def __init__(self, watched: Watched, backend: MemoryBackend):
        self.watched, self.backend, self.close = watched, backend, backend.close
        self.answer_within, self.weaknesses = backend.answer_within, backend.weaknesses
        self.seen, self.recall = backend.seen, backend.recall

    def execute(self, command: Any) -> Any:
        name = type(command).__name__
        self.watched.asked.append(name)
        if name in self.watched.away:
            raise BackendUnavailable(f"{name}: nobody answers")
        outcome = self.backend.execute(command)
        if name in self.watched.unheard:
            raise BackendUnavailable(f"{name}: the answer was lost")
        return outcome

    async def aexecute(self, command: Any) -> Any:
        return self.execute(command)


@pytest.fixture
def watched() -> Iterator[Watched]:
    plugin = Watched()
    plugin_manager().register(plugin)
    yield plugin
    plugin_manager().unregister(plugin)


@pytest.fixture
def two(tmp_path: Path, clock: ManualClock) -> Iterator[Callable[..., list[Guard]]]:
    """`here, there = two(policy)`: two Guards on one SQLite file, as in two processes."""
    with ExitStack() as stack:

        def make(policy: Any, count: int = 2, **options: Any) -> list[Guard]:
            url = f"sqlite:///{tmp_path}/ledger.db?timeout=30"
            guards = [stack.enter_context(Guard(url, policy=policy, clock=clock, **options)) for _ in range(count)]
            stack.callback(lambda: _assert_right(guards[0]))
            return guards

        yield make


def _assert_right(guard: Guard) -> None:
    found = guard.verify()
    assert found, found
