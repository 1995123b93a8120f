"""redis-py's pools for each kind of target: one server, the master that sentinels name, a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import redis.asyncio as aioredis
from redis import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
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


class Wire(Protocol):
    """Sends one command, once. Raises what redis-py raises."""

    def send(self, words: Words) -> Any: ...

    def close(self) -> None: ...


class AsyncWire(Protocol):
    """As `Wire`, on an event loop."""

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
        return _Pool(pool, sentinel.sentinels)
    return _Pool(ConnectionPool(connection_class=_connection(target, aio=False), **settings))


def aopened(target: Target, deadline: float) -> AsyncWire:
    """As `opened`, for the running event loop."""
    settings = _settings(target, deadline, AsyncRetry(NoBackoff(), 0))
    if target.kind == "cluster":
        return _AsyncCluster(target, settings)
    if target.kind == "sentinel":
        sentinel = _untyped(AsyncSentinel)(target.nodes, sentinel_kwargs=_short(deadline, AsyncRetry(NoBackoff(), 0)))
        pool = _untyped(AsyncSentinelConnectionPool)(target.service, sentinel, ssl=target.tls, **settings)
        return _AsyncPool(pool, sentinel.sentinels)
    return _AsyncPool(aioredis.ConnectionPool(connection_class=_connection(target, aio=True), **settings))


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
    """Connections of one server, each used by one command at a time. `sentinels` are the clients that find it."""

    def __init__(self, pool: Any, sentinels: Sequence[Any] = ()):
        self._pool = pool
        self._sentinels = sentinels

    def send(self, words: Words) -> Any:
        connection = self._pool.get_connection()
        try:
            connection.send_command(*words)
            return connection.read_response(disconnect_on_error=False)
        except BaseException as error:
            if not _is_reply(error):
                connection.disconnect()
            raise
        finally:
            self._pool.release(connection)

    def close(self) -> None:
        self._pool.disconnect()
        for sentinel in self._sentinels:
            sentinel.close()


class _AsyncPool:
    def __init__(self, pool: Any, sentinels: Sequence[Any] = ()):
        self._pool = pool
        self._sentinels = sentinels

    async def send(self, words: Words) -> Any:
        connection = await self._pool.get_connection()
        try:
            await connection.send_command(*words)
            return await connection.read_response(disconnect_on_error=False)
        except BaseException as error:
            if not _is_reply(error):
                await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)

    async def close(self) -> None:
        await self._pool.disconnect()
        for sentinel in self._sentinels:
            await sentinel.aclose()


class _Cluster:
    """A cluster, which is found out at the first command; redirections are followed."""

    def __init__(self, target: Target, settings: dict[str, Any]):
        nodes = [_untyped(ClusterNode)(host, port) for host, port in target.nodes]
        self._settings = {**settings, "startup_nodes": nodes, "ssl": target.tls}
        self._cluster: Any = None

    def send(self, words: Words) -> Any:
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
