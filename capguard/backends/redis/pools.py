"""redis-py's pools for each kind of target: one server, the master that sentinels name, a cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import redis.asyncio as aioredis
from redis import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelConnectionPool
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from capguard.backends.redis.store import Words
from capguard.backends.redis.target import Target


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


def opened(target: Target, deadline: float) -> Wire:
    """Nothing is connected before the first command."""
    settings = _settings(target, deadline, Retry(NoBackoff(), 0))
    if target.kind == "cluster":
        return _Cluster(target, settings)
    if target.kind == "sentinel":
        sentinel = _untyped(Sentinel)(target.nodes, sentinel_kwargs=_short(deadline, Retry(NoBackoff(), 0)))
        pool = _untyped(SentinelConnectionPool)(target.service, sentinel, ssl=target.tls, **settings)
        return _Pool(partial(pool.connection_class, **pool.connection_kwargs), sentinel.sentinels)
    return _Pool(partial(_connection(target, aio=False), **settings))


def aopened(target: Target, deadline: float) -> AsyncWire:
    """As `opened`, for the running event loop."""
    settings = _settings(target, deadline, AsyncRetry(NoBackoff(), 0))
    if target.kind == "cluster":
        return _AsyncCluster(target, settings)
    settings["socket_timeout"] = None  # the caller has a clock for the whole step; redis-py would start a task for each
    if target.kind == "sentinel":
        sentinel = _untyped(AsyncSentinel)(target.nodes, sentinel_kwargs=_short(deadline, AsyncRetry(NoBackoff(), 0)))
        pool = _untyped(AsyncSentinelConnectionPool)(target.service, sentinel, ssl=target.tls, **settings)
        return _AsyncPool(partial(pool.connection_class, **pool.connection_kwargs), sentinel.sentinels)
    return _AsyncPool(partial(_connection(target, aio=True), **settings))


def _short(deadline: float, retry: Any) -> dict[str, Any]:
    return {"socket_timeout": deadline, "socket_connect_timeout": deadline, "retry": retry}


def _settings(target: Target, deadline: float, retry: Any) -> dict[str, Any]:
    node: Mapping[str, Any] = {}
    if target.kind == "server" and target.nodes:
        node = {"host": target.nodes[0][0], "port": target.nodes[0][1]}
    return {**target.settings, **node, **_short(deadline, retry), "decode_responses": False, "health_check_interval": 0}


def _connection(target: Target, *, aio: bool) -> Any:
    if "path" in target.settings:
        return aioredis.UnixDomainSocketConnection if aio else UnixDomainSocketConnection
    if target.tls:
        return aioredis.SSLConnection if aio else SSLConnection
    return aioredis.Connection if aio else Connection


class _Pool:
    """Connections of one server, each used by one command at a time. `sentinels` are the clients that find it.

    They are kept here: to take one from redis-py's own pool and to give it back costs more than the command itself.
    """

    def __init__(self, make: Callable[[], Any], sentinels: Sequence[Any] = ()):
        self._make = make
        self._sentinels = sentinels
        self._idle: list[Any] = []
        self._pid = os.getpid()

    def send(self, words: Words, until: float) -> Any:
        connection = self._taken(until)
        try:
            connection.send_packed_command(_packed(connection, words), check_health=False)
            reply = connection.read_response(disconnect_on_error=False)
        except BaseException as error:
            if _is_reply(error):
                self._idle.append(connection)
            else:  # the others may have been lost with it: the next try begins anew
                connection.disconnect()
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
                connection.socket_connect_timeout = connection.socket_timeout = _left(until)
                connection.connect()
            connection._sock.settimeout(_left(until))
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


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline of this step is over")
    return left


class _AsyncPool:
    """As `_Pool`."""

    def __init__(self, make: Callable[[], Any], sentinels: Sequence[Any] = ()):
        self._make = make
        self._sentinels = sentinels
        self._idle: list[Any] = []

    async def send(self, words: Words) -> Any:
        connection = self._idle.pop() if self._idle else self._make()
        try:
            if not connection.is_connected:
                await connection.connect()
            await connection.send_packed_command(_packed(connection, words), check_health=False)
            reply = await connection.read_response(disconnect_on_error=False)
        except BaseException as error:
            if _is_reply(error):
                self._idle.append(connection)
            else:
                await connection.disconnect(nowait=True)
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


class _Cluster:
    """A cluster, which is found out at the first command; redirections are followed."""

    def __init__(self, target: Target, settings: dict[str, Any]):
        nodes = [_untyped(ClusterNode)(host, port) for host, port in target.nodes]
        self._settings = {**settings, "startup_nodes": nodes, "ssl": target.tls}
        self._cluster: Any = None

    def send(self, words: Words, until: float) -> Any:
        _left(until)
        if self._cluster is None:
            self._cluster = RedisCluster(**self._settings)
        return self._cluster.execute_command(*words)

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()


class _AsyncCluster:
    def __init__(self, target: Target, settings: dict[str, Any]):
        nodes = [_untyped(AsyncClusterNode)(host, port) for host, port in target.nodes]
        self._cluster: Any = AsyncRedisCluster(startup_nodes=nodes, ssl=target.tls, **settings)

    async def send(self, words: Words) -> Any:
        return await self._cluster.execute_command(*words)

    async def close(self) -> None:
        await self._cluster.aclose()


def _is_reply(error: BaseException) -> bool:
    """Whether the server has answered: then the connection is in order."""
    return isinstance(error, ResponseError)


def _untyped(made: Any) -> Any:
    """redis-py types its sentinels and cluster nodes in part only."""
    return made
