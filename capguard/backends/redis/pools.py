"""Connections of one server: redis-py's own, each used by one command at a time and kept for the next."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from redis.exceptions import ConnectionError, ResponseError  # noqa: A004

from capguard.backends.redis.store import Words


def _packer() -> Callable[[Words], bytes] | None:
    """hiredis packs commands quickly; redis-py does without it as well, and asks it on its sync side only."""
    try:
        import hiredis
    except ImportError:
        return None
    found: Callable[[Words], bytes] = hiredis.pack_command
    return found


_pack = _packer()


class Wire(Protocol):
    """Sends one command, once. Raises what redis-py raises."""

    def send(self, words: Words, until: float) -> Any:
        """The reply, which is waited for until then by time.monotonic(), whatever has to be connected first."""

    def close(self) -> None: ...


class AsyncWire(Protocol):
    """As `Wire`, on an event loop. How long a reply is waited for is the caller's business."""

    async def send(self, words: Words) -> Any: ...

    async def close(self) -> None: ...


class Pool:
    """Connections of one server, each used by one command at a time. `sentinels` are the clients that find it.

    They are kept here: to take one from redis-py's own pool and to give it back costs more than the command itself.
    """

    def __init__(self, make: Callable[[], Any], sentinels: Sequence[Any] = ()):
        self._make = make
        self._sentinels = sentinels
        self._idle: list[Any] = []
        self._pid = os.getpid()

    def send(self, words: Words, until: float, before: Sequence[Words] = ()) -> Any:
        """The reply. The commands `before` go first, on the same connection."""
        connection = self._taken(until)
        try:
            for each in (*before, words):
                connection.send_packed_command(_packed(connection, each), check_health=False)
                reply = connection.read_response(disconnect_on_error=False)
        except BaseException as error:
            if _is_reply(error):
                self._idle.append(connection)
            else:
                connection.disconnect()
                if isinstance(error, ConnectionError):  # the others may have been lost with it
                    self._forget()
            raise
        self._idle.append(connection)
        return reply

    def close(self) -> None:
        self._forget()
        for sentinel in self._sentinels:
            sentinel.close()

    def _taken(self, until: float) -> Any:
        """A connection that waits no longer than until then."""
        if self._pid != os.getpid():  # a fork shares the sockets of its parent, whose replies are not its own
            self._idle, self._pid = [], os.getpid()
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._make()
        try:
            if connection._sock is None:
                connection.socket_connect_timeout = connection.socket_timeout = left(until)
                connection.connect()
            connection._sock.settimeout(left(until))
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def _forget(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.disconnect()


def _packed(connection: Any, words: Words) -> Sequence[bytes]:
    return (_pack(words),) if _pack else connection.pack_command(*words)


def left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline of this step is over")
    return left


class AsyncPool:
    """As `Pool`."""

    def __init__(self, make: Callable[[], Any], sentinels: Sequence[Any] = ()):
        self._make = make
        self._sentinels = sentinels
        self._idle: list[Any] = []

    async def send(self, words: Words, before: Sequence[Words] = ()) -> Any:
        connection = self._idle.pop() if self._idle else self._make()
        try:
            if not connection.is_connected:
                await connection.connect()
            for each in (*before, words):
                await connection.send_packed_command(_packed(connection, each), check_health=False)
                reply = await connection.read_response(disconnect_on_error=False)
        except BaseException as error:
            if _is_reply(error):
                self._idle.append(connection)
            else:
                await connection.disconnect(nowait=True)
                if isinstance(error, ConnectionError):
                    await self._forget()
            raise
        self._idle.append(connection)
        return reply

    async def close(self) -> None:
        await self._forget(nowait=False)
        for sentinel in self._sentinels:
            await sentinel.aclose()

    async def _forget(self, *, nowait: bool = True) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.disconnect(nowait=nowait)


def _is_reply(error: BaseException) -> bool:
    """Whether the server has answered: then the connection is in order."""
    return isinstance(error, ResponseError)
