"""Connections that do what they are told, once: no hidden retries, a deadline of capguard's own.

redis-py sends a script again by itself when a reply is lost, up to ten times. Here a step is sent again once, with the
same id, and counts once.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncIterator
from queue import Empty, SimpleQueue
from typing import Any

from redis import exceptions

from capguard.backends.redis import wires
from capguard.backends.redis.pools import AsyncWire, Wire
from capguard.backends.redis.store import Words
from capguard.backends.redis.target import Target
from capguard.errors import BackendUnavailable

TRIES = 2

UNANSWERED = (exceptions.RedisError, OSError)
"""What a step may end in without a reply: whether it was carried out is not known."""


class Client:
    """The servers of one ledger, for threads and for event loops: a pool for the process, and one for every loop."""

    def __init__(self, target: Target, *, deadline: float, connections: int):
        self._target = target
        self._deadline = deadline
        self._connections = connections
        self._lock = threading.Lock()
        self._turns: SimpleQueue[None] = SimpleQueue()  # one a connection: a semaphore costs twenty times as much
        for _ in range(connections):
            self._turns.put(None)
        self._wire: Wire | None = None
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = weakref.WeakKeyDictionary()

    def send(self, words: Words) -> Any:
        """One command. Returns the reply, or the error that the server replied with. Raises BackendUnavailable.

        Both tries together take no longer than the deadline: the first has two thirds of it.
        """
        until = time.monotonic() + self._deadline
        try:
            self._turns.get(timeout=self._deadline)
        except Empty:
            raise self._away(f"all {self._connections} connections were busy for {self._deadline} s") from None
        try:
            return self._sent(words, until)
        finally:
            self._turns.put(None)

    async def asend(self, words: Words) -> Any:
        """As `send`, on the running event loop."""
        until = time.monotonic() + self._deadline
        loop = await self._of_this_loop()
        try:
            async with asyncio.timeout(self._deadline if loop.turns.locked() else None):
                await loop.turns.acquire()
        except TimeoutError:
            raise self._away(f"all {self._connections} connections were busy for {self._deadline} s") from None
        try:
            return await self._asent(loop.wire, words, until)
        finally:
            loop.turns.release()

    def close(self) -> None:
        """Give back the connections of threads; those of an event loop end with it."""
        if self._wire is not None:
            self._wire.close()
        self._wire = None

    def _sent(self, words: Words, until: float) -> Any:
        wire = self._wire or self._opened()
        for left in reversed(range(TRIES)):
            try:
                return wire.send(words, _share(until, left))
            except exceptions.ResponseError as error:
                return error
            except UNANSWERED as error:
                if not left:
                    raise self._away(f"{type(error).__name__}: {error}") from error
        raise AssertionError("unreachable")

    async def _asent(self, wire: AsyncWire, words: Words, until: float) -> Any:
        for left in reversed(range(TRIES)):
            try:
                async with asyncio.timeout(_share(until, left) - time.monotonic()):
                    return await wire.send(words)
            except exceptions.ResponseError as error:
                return error
            except UNANSWERED as error:
                if not left:
                    raise self._away(f"{type(error).__name__}: {error}") from error
        raise AssertionError("unreachable")

    def _opened(self) -> Wire:
        with self._lock:
            if self._wire is None:
                self._wire = wires.opened(self._target, self._deadline)
            return self._wire

    async def _of_this_loop(self) -> _Loop:
        running = asyncio.get_running_loop()
        known = self._loops.get(running)
        if known is None:
            wire = wires.aopened(self._target, self._deadline)
            self._loops[running] = known = _Loop(wire, self._connections)
            await anext(known.ending)
        return known

    def _away(self, why: str) -> BackendUnavailable:
        return BackendUnavailable(f"{self._target}: {why}")


def _share(until: float, more: int) -> float:
    """Until when a try may wait: a third is left to the one after it."""
    now = time.monotonic()
    return now + (until - now) * 2 / 3 if more else until


class _Loop:
    """What belongs to one event loop, which closes its generators at its end: that one closes the connections."""

    def __init__(self, wire: AsyncWire, connections: int):
        self.wire = wire
        self.turns = asyncio.Semaphore(connections)
        self.ending = _until_the_end(wire)


async def _until_the_end(wire: AsyncWire) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await wire.close()
