"""One ledger in a store: asks its scripts, and knows what this process has seen of it.

Everything here is a generator that yields commands for a server and receives its replies, for sync and async alike.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from capguard.backends.base import Clock, system_clock
from capguard.backends.redis.condition import weaknesses
from capguard.backends.redis.keys import Keys
from capguard.backends.redis.scripts import script
from capguard.backends.redis.wire import text
from capguard.errors import BackendUnavailable

T = TypeVar("T")

Words = tuple[Any, ...]
"""A command for the server, word by word."""

Talk = Generator[Words, Any, T]
"""A conversation with a server. What it receives is a reply, or the error that the server replied with."""

_VERSION_7 = 0x070000
_LOSSES = (b"void", b"rewound", b"lost")
_LOST = re.compile(r"LOST (\S+)")
"""What a script says that finds a key gone."""

log = logging.getLogger("capguard")

MOST_TRIES = 10
"""How often a step is asked again with what the store said of itself: each time it had changed in between."""


class Seen(NamedTuple):
    """What is known of a store: its epoch, its newest entry and that one's mark, how many buckets it has."""

    epoch: str
    seq: int
    mark: bytes
    size: int


class Store:
    """A namespace on one server, and what is known of it.

    A store that has gone back behind what was seen of it, or that another one was put in the place of, has lost calls
    that were counted. It is not used any more until it was recovered.
    """

    def __init__(
        self,
        namespace: str,
        clock: Clock = system_clock,
        *,
        strict: bool = False,
        layout: str = "",
        warned: set[str] | None = None,
    ):
        self.keys = Keys(namespace)
        self.layout = layout
        self.expected = False  # where it was begun before, an empty place has lost it
        self._warned = set() if warned is None else warned
        self._flags = False
        self._clock = clock
        self._strict = strict
        self._seen: Seen | None = None
        self._recalled: Seen | None = None
        self.weak: Sequence[str] = ()
        self.renewed = 0

    @property
    def size(self) -> int:
        """How many buckets it has, as far as is known."""
        return self._seen.size if self._seen else 0

    def seen(self) -> Sequence[Any] | None:
        """What is known of it, as JSON."""
        seen = self._seen
        return None if seen is None else (seen.epoch, seen.seq, text(seen.mark), seen.size)

    def recall(self, seen: Sequence[Any]) -> None:
        """What an earlier process of this host had seen: the first step holds the store to it."""
        epoch, seq, mark, size = seen
        self._recalled = Seen(epoch, seq, mark.encode(), size)

    def ask(
        self, name: str, args: Sequence[Any] = (), *, own: str = "", rows: tuple[str, ...] = (), skip: bool = False
    ) -> Talk[Any]:
        """The reply of a script that is told where these rows are, `own` before all. Raises BackendUnavailable."""
        for _ in range(MOST_TRIES):
            seen = self._seen or (yield from self._start())
            keys, places = self.keys.placed_with(own, rows, seen.size) if own else self.keys.placed(rows, seen.size)
            reply = yield from self._run(name, seen, keys, (b"1" if skip else b"", places, *args))
            said = reply[0]
            if said == b"size":
                self._learn(seen._replace(size=reply[1]))
            elif said == b"epoch":
                self._meet(*reply[1:])
            elif said in _LOSSES:
                raise self._loss(text(said), reply)
            else:
                if reply[1] > seen.seq:
                    self._learn(Seen(seen.epoch, reply[1], reply[2], seen.size))
                return reply
        raise BackendUnavailable(f"the store {self.keys.prefix} changed its shape {MOST_TRIES} times within one step")

    def grow(self, spare: int) -> Talk[None]:
        """Make more buckets, as long as there are more rows than they should have.

        What led here is done: where the server does not answer any more, the next step that writes goes on with it.
        """
        with suppress(BackendUnavailable):
            while spare < 0 and (seen := self._seen):
                half = 1 << (seen.size.bit_length() - 1)
                buckets = [self.keys.bucket(seen.size - half), self.keys.bucket(seen.size)]
                reply = yield from self._run("grow", seen, (*self.keys.fixed, *buckets), (b"", b""))
                if reply[0] != b"grown":
                    return
                self._learn(seen._replace(size=reply[1]))
                spare = reply[2]

    def accept_loss(self) -> Talk[int]:
        """Go on with what is left, as a new epoch. How many open calls were dropped with the entries that made them."""
        self.check_layout((yield from self.identity())[1])
        epoch, size = new_epoch(), 1
        nothing = Seen("", 0, b"", 0)
        for _ in range(MOST_TRIES):
            keys = (*self.keys.fixed, *(self.keys.bucket(number) for number in range(size)))
            reply = yield from self._run("accept", nothing, keys, (b"", b"", epoch, self.layout))
            if reply[0] == b"accepted":
                self.forget()
                return int(reply[1])
            size = reply[1]
        raise BackendUnavailable(f"the store {self.keys.prefix} goes on changing; stop what uses it first")

    def identity(self) -> Talk[tuple[str | None, str | None, int]]:
        """The ledger's id, which it keeps through recoveries, how it is sharded, and the number of its newest entry.

        None where nobody knows any more.
        """
        id, layout, seq = answered((yield ("HMGET", self.keys.meta, "ledger", "layout", "seq")))
        if id is None:
            id = answered((yield ("HGET", self.keys.policies, "")))
        return None if id is None else text(id), None if layout is None else text(layout), int(seq or 0)

    def check_layout(self, layout: str | None) -> None:
        """Raise BackendUnavailable where it is sharded otherwise than this URL says."""
        if layout is not None and layout != self.layout:
            raise BackendUnavailable(
                f"the store {self.keys.prefix} is {_said(layout)}, this URL has it {_said(self.layout)}"
            )

    def now(self) -> Talk[int]:
        """What the time is, by the clock that counts."""
        if self._clock is not system_clock:
            return self._clock()
        seconds, micros = answered((yield ("EVAL", "return redis.call('TIME')", 1, self.keys.meta)))
        return int(seconds) * 1000 + int(micros) // 1000

    def forget(self) -> None:
        """It was made anew: it is met as if for the first time."""
        self._seen = self._recalled = None

    def _run(self, name: str, seen: Seen, keys: Sequence[str], args: Sequence[Any]) -> Talk[Any]:
        """One script, by its digest; by its text where the server does not have it yet."""
        now = "" if self._clock is system_clock else self._clock()
        tail = (len(keys), *keys, now, seen.epoch, seen.seq, seen.mark, seen.size, os.urandom(6).hex(), *args)
        code = script(name, flags=self._flags)
        reply = yield ("EVALSHA", code.sha, *tail)
        if isinstance(reply, Exception) and "NOSCRIPT" in f"{type(reply).__name__} {reply}".upper():
            reply = yield ("EVAL", code.text, *tail)
        if isinstance(reply, Exception) and (key := _LOST.search(str(reply))):
            raise self._loss("lost", ["lost", key[1]]) from reply
        return answered(reply)

    def _learn(self, new: Seen) -> None:
        """What another thread has learnt meanwhile stays: an epoch's entries and buckets only become more."""
        old = self._seen
        if old is None or old.epoch != new.epoch:
            return
        newest = new if new.seq > old.seq else old
        self._seen = Seen(newest.epoch, newest.seq, newest.mark, max(old.size, new.size))

    def _start(self) -> Talk[Seen]:
        epoch = "" if self._strict or self.expected else new_epoch()
        nothing = Seen("", 0, b"", 0)
        reply = yield from self._run(
            "start", nothing, (*self.keys.fixed, self.keys.bucket(0)), (b"", b"", epoch, self.layout)
        )
        if reply[0] != b"started":
            raise self._loss(text(reply[0]), reply)
        _, found, seq, mark, size, layout, version, info = reply
        self.check_layout(text(layout))
        self._flags = version >= _VERSION_7
        self._check(weaknesses(text(info)))
        self._seen = seen = self._recalled or Seen(text(found), seq, mark, size)
        return seen

    def _check(self, weak: Sequence[str]) -> None:
        """Say what of the server's settings weakens a promise; with `strict`, refuse such a server."""
        self.weak = weak
        if weak and self._strict:
            raise BackendUnavailable(f"strict: {'; '.join(weak)}")
        for each in weak:
            if each not in self._warned:
                self._warned.add(each)
                log.warning("capguard: %s", each)

    def _meet(self, epoch: bytes, seq: int, mark: bytes, size: int, follows: bytes) -> None:
        """Another epoch: one that somebody has accepted goes on where ours ended, any other is a loss."""
        seen = self._seen
        if follows != b"any" or (seen is not None and text(epoch) <= seen.epoch):  # an older one was brought back
            raise self._loss("replaced", ())
        self._seen = Seen(text(epoch), seq, mark, size)
        self.renewed += 1

    def lost(self, name: str) -> BackendUnavailable:
        """One of its keys is gone."""
        return self._loss("lost", ["lost", self.keys.prefix + name])

    def _loss(self, said: str, reply: Sequence[Any]) -> BackendUnavailable:
        never = " (strict: capguard recover --accept-loss sets one up)" if self._strict else ""
        found = {
            "void": "holds no ledger" + (never if self._seen is None else " any more"),
            "rewound": f"is at entry {reply[1] if len(reply) > 1 else '?'}, and had other entries before",
            "lost": f"has lost {text(reply[1]) if len(reply) > 1 else 'a key'}",
            "replaced": "holds another ledger than the one that was used before",
        }[said]
        return BackendUnavailable(
            f"the store {self.keys.prefix} {found}: state was lost, what was spent is not known there;"
            " capguard recover --archive FILE makes it anew from its journal,"
            " capguard recover --accept-loss goes on with what is left"
        )


def new_epoch() -> str:
    """One that is after all that were made before, wherever: 12 hex digits of milliseconds, then chance."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"


def _said(layout: str) -> str:
    return f"sharded by {layout.partition('/')[0]}: ?shard_by={layout.partition('/')[0]}" if layout else "not sharded"


def answered(reply: Any) -> Any:
    """The reply, where it is none that says why there is none. Raises BackendUnavailable."""
    if isinstance(reply, Exception):
        raise BackendUnavailable(f"the server refused: {reply}") from reply
    return reply
