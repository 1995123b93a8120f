"""How commands get to each kind of target: one server, the master that sentinels name, a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import redis.asyncio as aioredis
from redis import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from capguard.backends.redis.cluster import AsyncCluster, Cluster
from capguard.backends.redis.pools import AsyncPool, AsyncWire, Pool, Wire
from capguard.backends.redis.target import Target


def opened(target: Target, deadline: float) -> Wire:
    """Nothing is connected before the first command."""
    settings = _settings(target, deadline, Retry(NoBackoff(), 0))
    make = partial(_connection(target, aio=False), **settings)
    if target.kind == "cluster":
        return Cluster(target.nodes, lambda host, port: partial(make, host=host, port=port))
    if target.kind == "sentinel":
        sentinel = _untyped(Sentinel)(target.nodes, sentinel_kwargs=_short(deadline, Retry(NoBackoff(), 0)))
        pool = _untyped(SentinelConnectionPool)(target.service, sentinel, ssl=target.tls, **settings)
        return Pool(_of_pool(pool), sentinel.sentinels)
    return Pool(make)


def aopened(target: Target, deadline: float) -> AsyncWire:
    """As `opened`, for the running event loop."""
    settings = _settings(target, deadline, AsyncRetry(NoBackoff(), 0))
    settings["socket_timeout"] = None  # the caller has a clock for the whole step; redis-py would start a task for each
    make = partial(_connection(target, aio=True), **settings)
    if target.kind == "cluster":
        return AsyncCluster(target.nodes, lambda host, port: partial(make, host=host, port=port))
    if target.kind == "sentinel":
        sentinel = _untyped(AsyncSentinel)(target.nodes, sentinel_kwargs=_short(deadline, AsyncRetry(NoBackoff(), 0)))
        pool = _untyped(AsyncSentinelConnectionPool)(target.service, sentinel, ssl=target.tls, **settings)
        return AsyncPool(_of_pool(pool), sentinel.sentinels)
    return AsyncPool(make)


def _of_pool(pool: Any) -> Callable[[], Any]:
    """Makes connections as a pool of sentinels does. They know it by a weak reference: whoever makes them keeps it."""
    return lambda: pool.connection_class(**pool.connection_kwargs)


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


def _untyped(made: Any) -> Any:
    """redis-py types its sentinels in part only."""
    return made
