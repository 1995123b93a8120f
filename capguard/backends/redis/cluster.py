"""A cluster: each command goes to the node that serves its slot, and where that has moved, there.

redis-py's cluster clients wait and try again by themselves, for as long as their settings say and not for what is left
of a step; what they raise when no node answers is none of redis-py's other errors. So only the connections are theirs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,  # noqa: A004
    MovedError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from capguard.backends.redis.pools import AsyncPool, Pool
from capguard.backends.redis.store import Words

Node = tuple[str, int]
P = TypeVar("P")

SLOTS = 16_384
AGAIN_S = 0.01
"""How long a slot that is on the move is left alone before it is asked again."""

_WHERE = ("CLUSTER", "SLOTS")
_NOTHING: Sequence[Words] = ()
_ASKING: Sequence[Words] = (("ASKING",),)


class Slots:
    """Which node serves which slot, as far as is known, and the nodes that may be asked."""

    def __init__(self, nodes: Sequence[Node]):
        self._nodes = list(nodes)
        self._owners: list[Node | None] = [None] * SLOTS

    def owner(self, slot: int) -> Node | None:
        return self._owners[slot]

    def nodes(self) -> Sequence[Node]:
        """Those that may be asked, the most trusted first."""
        return list(self._nodes)

    def learn(self, reply: Sequence[Any], asked: Node) -> None:
        """What a node says: ranges of slots, each with its master and the replicas of that."""
        owners: list[Node | None] = [None] * SLOTS
        found = []
        for first, last, *servers in reply:
            nodes = [_node(host, port, asked) for host, port, *_ in servers]
            owners[first : last + 1] = [nodes[0]] * (last + 1 - first)
            found += nodes
        self._owners = owners
        self._nodes = list(dict.fromkeys([*found, *self._nodes]))

    def moved(self, slot: int, node: Node) -> None:
        self._owners[slot] = node

    def doubt(self, node: Node) -> None:
        """It did not answer: it is asked last, and what it is said to serve is asked for again."""
        if node in self._nodes:
            self._nodes.remove(node)
            self._nodes.append(node)
        self._owners = [None] * SLOTS


class Cluster:
    """Pools of a cluster's nodes, for threads. Every command is answered, or given up, by the time that it has."""

    def __init__(self, nodes: Sequence[Node], connecting: Callable[[str, int], Callable[[], Any]]):
        self._slots = Slots(nodes)
        self._connecting = connecting
        self._pools: dict[Node, Pool] = {}

    def send(self, words: Words, until: float) -> Any:
        slot, before = slot_of(words), _NOTHING
        node = self._slots.owner(slot) or self._found(slot, until)
        while True:
            try:
                return self._pool(node).send(words, until, before)
            except ResponseError as error:
                word, rest = _said(error)
                if word == "TRYAGAIN":
                    time.sleep(AGAIN_S)
                    continue
                node, before = _followed(self._slots, word, rest, node, error)
            except (ConnectionError, OSError):
                self._slots.doubt(node)
                raise

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    def _found(self, slot: int, until: float) -> Node:
        """Ask for the node of a slot. Raises what the last node raised that was asked in vain."""
        why: Exception = ConnectionError("the cluster has no node")
        for node in self._slots.nodes():
            try:
                self._slots.learn(self._pool(node).send(_WHERE, until), node)
            except (RedisError, OSError) as error:
                self._slots.doubt(node)
                why = error
                if time.monotonic() >= until:
                    break
            else:
                return _served(self._slots, slot)
        raise why

    def _pool(self, node: Node) -> Pool:
        return _kept(self._pools, node, lambda: Pool(self._connecting(*node)))


class AsyncCluster:
    """As `Cluster`."""

    def __init__(self, nodes: Sequence[Node], connecting: Callable[[str, int], Callable[[], Any]]):
        self._slots = Slots(nodes)
        self._connecting = connecting
        self._pools: dict[Node, AsyncPool] = {}

    async def send(self, words: Words) -> Any:
        slot, before = slot_of(words), _NOTHING
        node = self._slots.owner(slot) or await self._found(slot)
        while True:
            try:
                return await self._pool(node).send(words, before)
            except ResponseError as error:
                word, rest = _said(error)
                if word == "TRYAGAIN":
                    await asyncio.sleep(AGAIN_S)
                    continue
                node, before = _followed(self._slots, word, rest, node, error)
            except (ConnectionError, OSError, asyncio.CancelledError):
                self._slots.doubt(node)
                raise

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.close()

    async def _found(self, slot: int) -> Node:
        why: Exception = ConnectionError("the cluster has no node")
        for node in self._slots.nodes():
            try:
                self._slots.learn(await self._pool(node).send(_WHERE), node)
            except asyncio.CancelledError:  # its time was up: the next step asks another one
                self._slots.doubt(node)
                raise
            except (RedisError, OSError) as error:
                self._slots.doubt(node)
                why = error
            else:
                return _served(self._slots, slot)
        raise why

    def _pool(self, node: Node) -> AsyncPool:
        return _kept(self._pools, node, lambda: AsyncPool(self._connecting(*node)))


def slot_of(words: Words) -> int:
    """The slot of a command, by its first key."""
    key = words[3] if words[0] in ("EVALSHA", "EVAL") else words[1]
    return key_slot(key.encode())


_WORDS = {MovedError: "MOVED", AskError: "ASK", TryAgainError: "TRYAGAIN", ClusterDownError: "CLUSTERDOWN"}


def _said(error: ResponseError) -> tuple[str, str]:
    """The first word of an error of a node, and the rest: newer connections of redis-py make a class of the word."""
    if (word := _WORDS.get(type(error))) is not None:
        return word, str(error)
    word, _, rest = str(error).partition(" ")
    return word, rest


def _followed(slots: Slots, word: str, rest: str, node: Node, error: ResponseError) -> tuple[Node, Sequence[Words]]:
    """Where a redirection leads, for good or for this command alone, which then has to say so. Raises what is none."""
    if word not in ("MOVED", "ASK"):
        if word == "CLUSTERDOWN":
            slots.doubt(node)
        raise error
    slot, address, *_ = rest.split(" ")
    host, _, port = address.rpartition(":")
    there = host or node[0], int(port)
    if word == "ASK":
        return there, _ASKING
    slots.moved(int(slot), there)
    return there, _NOTHING


def _served(slots: Slots, slot: int) -> Node:
    if (node := slots.owner(slot)) is None:
        raise ConnectionError(f"no node of the cluster serves slot {slot}")
    return node


def _node(host: bytes | str | None, port: int, asked: Node) -> Node:
    """A node that does not say its own address is where it was asked."""
    name = host.decode() if isinstance(host, bytes) else host
    return (name if name and name != "?" else asked[0]), int(port)


def _kept(pools: dict[Node, P], node: Node, make: Callable[[], P]) -> P:
    pool = pools.get(node)
    if pool is None:
        pool = pools.setdefault(node, make())
    return pool
