"""Connections that do what they are told, once: no hidden retries, a deadline of capguard's own."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
import redis.asyncio
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from capguard.backends.redis.store import Words
from capguard.errors import BackendUnavailable

TRIES = 2
"""A step whose reply was lost is sent once more: it bears its id, and counts once."""

UNANSWERED = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)


def shown(url: str) -> str:
    """A URL without its password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


class Client:
    """One server, for threads and for event loops: a pool for the process, and one for every loop."""

    def __init__(self, url: str, *, deadline: float, connections: int, options: dict[str, Any]):
        self._url = url
        self._deadline = deadline
        self._options = {
            **options,
            "socket_timeout": deadline,
            "socket_connect_timeout": deadline,
            "decode_responses": False,
            "max_connections": connections,
            "timeout": deadline,
            "health_check_interval": 0,
        }
        self._lock = threading.Lock()
        self._pool: Any = None  # redis-py types its pools in part
        self._pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _AsyncPool] = weakref.WeakKeyDictionary()

    def send(self, words: Words) -> Any:
        """One command. Returns the reply, or the error that the server replied with. Raises BackendUnavailable."""
        pool = self._sync_pool()
        for left in reversed(range(TRIES)):
            try:
                return _on(pool.get_connection(), pool, words)
            except UNANSWERED as error:
                if not left:
                    raise self._away(error) from error
        raise AssertionError("unreachable")

    async def asend(self, words: Words) -> Any:
        """As `send`, on the running event loop."""
        pool = await self._async_pool()
        for left in reversed(range(TRIES)):
            try:
                return await _aon(await pool.get_connection(), pool, words)
            except UNANSWERED as error:
                if not left:
                    raise self._away(error) from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Give back the connections of threads; those of an event loop end with it."""
        if self._pool is not None:
            self._pool.disconnect()
        self._pool = None

    def _sync_pool(self) -> Any:
        if self._pool is None:
            with self._lock:
                if self._pool is None:
                    retry = Retry(NoBackoff(), 0)
                    self._pool = redis.BlockingConnectionPool.from_url(self._url, retry=retry, **self._options)
        return self._pool

    async def _async_pool(self) -> Any:
        loop = asyncio.get_running_loop()
        known = self._pools.get(loop)
        if known is None:
            retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
            pool = redis.asyncio.BlockingConnectionPool.from_url(self._url, retry=retry, **self._options)
            self._pools[loop] = known = pool, _until_the_loop_ends(pool)
            await anext(known[1])
        return known[0]

    def _away(self, error: BaseException) -> BackendUnavailable:
        return BackendUnavailable(f"{shown(self._url)}: {type(error).__name__}: {error}")


async def _until_the_loop_ends(pool: Any) -> AsyncIterator[None]:
    """An event loop that ends closes its generators: this one takes its connections with it."""
    try:
        yield
    finally:
        await pool.disconnect()


_AsyncPool = tuple[Any, AsyncIterator[None]]


def _on(connection: Any, pool: Any, words: Words) -> Any:
    try:
        connection.send_command(*words)
        try:
            return connection.read_response()
        except exceptions.ResponseError as error:
            return error
    except BaseException:
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


async def _aon(connection: Any, pool: Any, words: Words) -> Any:
    try:
        await connection.send_command(*words)
        try:
            return await connection.read_response()
        except exceptions.ResponseError as error:
            return error
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)
