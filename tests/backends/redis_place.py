"""A namespace of one's own on a real server, a look at its keys, and short words to talk with a backend there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from capguard.backends.base import Clock, system_clock
from capguard.backends.redis import RedisBackend
from capguard.errors import BackendUnavailable
from capguard.ledger.caps import Leg
from capguard.ledger.commands import (
    Command,
    Look,
    Publish,
)
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import cap, extend, release, reserve, settle
from capguard.testing.conformance.paying import give
from capguard.testing.conformance.told import told
from tests.backends.servers import Server

_numbers = itertools.count()


def the_long_way(lua: str) -> str:
    """A script, or a file of one, in which no call takes the plain way: what decides then decides every call."""
    return lua.replace("plainly() or ", "")


PER_BUCKET = 56
"""Rows for which a store has a bucket."""

EVER = cap("ever", 10**9, window="lifetime")
TEN = cap("ten", 10)
HELD = reserve("r1", 4, TEN), "held"


OPEN: list[Any] = []
"""What this test has opened: closed at its end, whatever came of it."""


class Place:
    """A namespace of its own on a server, and a look at its keys."""

    def __init__(self, server: Server):
        self.server = server
        self.namespace = f"g{next(_numbers)}"
        self.raw: redis.Redis = server.client()
        OPEN.append(self.raw)

    def open(self, clock: Clock = system_clock, *, deadline: float = 5, port: int = 0, **options: Any) -> RedisBackend:
        """A backend there, or behind the proxy on `port`."""
        url = f"redis://127.0.0.1:{port or self.server.port}/0"
        backend = RedisBackend(url, namespace=self.namespace, clock=clock, deadline=deadline, **options)
        OPEN.append(backend)
        return backend

    def key(self, name: str) -> str:
        return f"cg1:{{{self.namespace}}}:{name}"

    def meta(self, field: str) -> int:
        return int(self._asked(self.raw.hget(self.key("meta"), field)) or 0)

    def buckets(self) -> Iterator[dict[bytes, bytes]]:
        """The rows of each bucket."""
        for number in range(self.meta("size")):
            rows: dict[bytes, bytes] = self._asked(self.raw.hgetall(self.key(f"b:{number}")))
            assert rows.pop(b"e"), f"bucket {number} has no epoch"
            yield rows

    def shows(self) -> dict[str, Any]:
        """All keys of this ledger with what is in them."""
        return {key.decode(): self._content(key) for key in self._asked(self.raw.keys(self.key("*").replace("{", "?")))}

    def _content(self, key: bytes) -> Any:
        kind = self._asked(self.raw.type(key))
        if kind == b"hash":
            return self.raw.hgetall(key)
        if kind == b"zset":
            return self.raw.zrange(key, 0, -1, withscores=True)
        return self.raw.xrange(key) if kind == b"stream" else self.raw.get(key)

    @staticmethod
    def _asked(reply: Any) -> Any:
        """redis-py types what its sync client returns as if it might be awaited."""
        return reply


def say(backend: RedisBackend, *script: tuple[Command, str]) -> None:
    for command, expected in script:
        assert told(backend.execute(command)) == expected, command


def legs_of(user: int, clock: Clock = ManualClock()) -> tuple[Leg, ...]:  # noqa: B008 - the start of the clock
    return tuple(cap(name, 100, who=f"u{user}") for name in ("a", "b", "c"))


def refuses(backend: RedisBackend, *commands: Command) -> None:
    """Each is answered with BackendUnavailable: what is not known is never taken for 0."""
    for command in commands:
        with pytest.raises(BackendUnavailable):
            backend.execute(command)


def teach(server: Server) -> None:
    """Let it know every script, so that a command is one step: by its digest."""
    backend = Place(server).open(ManualClock())
    say(backend, (reserve("r1", 1), "held"), (extend("r1", ttl=90), "extended to  until 90"))
    say(backend, (settle("r1", 1), "settled 1"), (release("r1"), "nothing to release"))
    say(backend, (give("credit", 1), "profile 1, grants credit"))
    say(backend, (Publish({"default_plan": "pro"}, None), "policy 1 pro"), (Look(()), "meters"))
    backend.close()
