"""One ledger in a store: asks its scripts, and knows what this process has seen of it.

Everything here is a generator that yields commands for a server and receives its replies, for sync and async alike.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Generator, Iterable, Sequence
from typing import Any, TypeVar

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

log = logging.getLogger("capguard")

MOST_TRIES = 10
"""How often a step is asked again with what the store said of itself: each time it had changed in between."""


class Store:
    """A namespace on one server, and what is known of it: its epoch, its newest entry, how many buckets it has.

    A store that has gone back behind what was seen of it, or that another one was put in the place of, has lost calls
    that were counted. It is not used any more until it was recovered.
    """

    def __init__(self, namespace: str, clock: Clock = system_clock, *, strict: bool = False):
        self.keys = Keys(namespace)
        self._flags = False
        self._clock = clock
        self._strict = strict
        self._epoch: str | None = None
        self._seen = 0
        self._size = 0
        self.weak: Sequence[str] = ()

    @property
    def size(self) -> int:
        """How many buckets it has, as far as is known."""
        return self._size

    def saw(self, seq: int) -> None:
        """Remember that the store has had an entry of this number."""
        self._seen = max(self._seen, seq)

    def ask(self, name: str, rows: Iterable[str] = (), args: Sequence[Any] = (), *, skip: bool = False) -> Talk[Any]:
        """The reply of a script to which the buckets of these rows are given. Raises BackendUnavailable."""
        rows = tuple(rows)
        if self._epoch is None:
            yield from self._start()
        for _ in range(MOST_TRIES):
            keys = (*self.keys.fixed, *self.keys.buckets(rows, self._size))
            reply = yield from self.run(name, keys, args, skip=skip)
            said = reply[0]
            if said == b"size":
                self._size = reply[1]
            elif said == b"epoch":
                self._meet(text(reply[1]), reply[2], reply[3], text(reply[4]))
            elif said in (b"void", b"rewound", b"lost"):
                raise self._loss(text(said), reply)
            else:
                return reply
        raise BackendUnavailable(f"the store {self.keys.prefix} changed its shape {MOST_TRIES} times within one step")

    def grow(self) -> Talk[None]:
        """Make more buckets, as long as there are more rows than they should have."""
        spare = -1
        while spare < 0:
            half = 1 << (self._size.bit_length() - 1)
            buckets = [self.keys.bucket(self._size - half), self.keys.bucket(self._size)]
            reply = yield from self.run("grow", (*self.keys.fixed, *buckets), ())
            if reply[0] != b"grown":
                return
            self._size, spare = reply[1], reply[2]

    def accept_loss(self) -> Talk[int]:
        """Go on with what is left, as a new epoch. How many open calls were dropped with the entries that made them."""
        epoch, size = secrets.token_hex(8), 1
        for _ in range(MOST_TRIES):
            keys = (*self.keys.fixed, *(self.keys.bucket(number) for number in range(size)))
            reply = yield from self.run("accept", keys, (epoch,))
            if reply[0] == b"accepted":
                self._epoch = None  # to be met again
                return int(reply[1])
            size = reply[1]
        raise BackendUnavailable(f"the store {self.keys.prefix} goes on changing; stop what uses it first")

    def run(self, name: str, keys: Sequence[str], args: Sequence[Any], *, skip: bool = False) -> Talk[Any]:
        """One script, by its digest; by its text where the server does not have it yet."""
        now = "" if self._clock is system_clock else str(self._clock())
        tail = (len(keys), *keys, now, self._epoch or "", self._seen, self._size, "1" if skip else "", *args)
        code = script(name, flags=self._flags)
        reply = yield ("EVALSHA", code.sha, *tail)
        if isinstance(reply, Exception) and "NOSCRIPT" in f"{type(reply).__name__} {reply}".upper():
            reply = yield ("EVAL", code.text, *tail)
        return answered(reply)

    def _start(self) -> Talk[None]:
        epoch = "" if self._strict else secrets.token_hex(8)
        reply = yield from self.run("start", (*self.keys.fixed, self.keys.bucket(0)), (epoch,))
        if reply[0] != b"started":
            raise self._loss(text(reply[0]), reply)
        self._epoch, self._seen, self._size = text(reply[1]), reply[2], reply[3]
        self._flags = reply[4] >= _VERSION_7
        self._check(weaknesses(text(reply[5])))

    def _check(self, weak: Sequence[str]) -> None:
        """Say what of the server's settings weakens a promise; with `strict`, refuse such a server."""
        self.weak = weak
        if weak and self._strict:
            raise BackendUnavailable(f"strict: {'; '.join(weak)}")
        for each in weak:
            log.warning("capguard: %s", each)

    def _meet(self, epoch: str, seq: int, size: int, follows: str) -> None:
        """Another epoch: one that somebody has accepted goes on where ours ended, any other is a loss."""
        if follows != "any":
            raise self._loss("replaced", ())
        self._epoch, self._seen, self._size = epoch, seq, size

    def _loss(self, said: str, reply: Sequence[Any]) -> BackendUnavailable:
        never = " (strict: capguard recover --accept-loss sets one up)" if self._strict else ""
        found = {
            "void": "holds no ledger" + (never if self._epoch is None else " any more"),
            "rewound": f"is at entry {reply[1] if len(reply) > 1 else '?'}, and was at {self._seen} before",
            "lost": f"has lost {text(reply[1]) if len(reply) > 1 else 'a key'}",
            "replaced": "holds another ledger than the one that was used before",
        }[said]
        return BackendUnavailable(
            f"the store {self.keys.prefix} {found}: state was lost, what was spent is not known there;"
            " capguard recover --accept-loss goes on with what is left"
        )


def answered(reply: Any) -> Any:
    """The reply, where it is none that says why there is none. Raises BackendUnavailable."""
    if isinstance(reply, Exception):
        raise BackendUnavailable(f"the server refused: {reply}") from reply
    return reply
