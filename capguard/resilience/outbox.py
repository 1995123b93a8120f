"""What this process has to tell a backend that is away: calls let through meanwhile, and how calls ended."""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from capguard.ledger.commands import Release, Reserve, Settle
from capguard.resilience import letters
from capguard.resilience.letters import Letter
from capguard.resilience.slots import Slot, orphans, own_slot, put_aside

log = logging.getLogger("capguard")


class Post(NamedTuple):
    """A letter that can be delivered. `number` is its place in the file, 0 for one that is only in memory."""

    number: int
    letter: Letter


class Outbox:
    """The letters of one process, on disk where the disk can be written. Nothing is opened before the first one.

    An admission waits for the call's end; whatever ends it, a settle or a release, takes its place.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.reset()

    def forked(self) -> None:
        """Begin anew in a child: the file and what is in it are the parent's, whose lock this does not end."""
        if self._slot is not None:
            self._slot.close()
        self.reset()

    def reset(self) -> None:
        """Empty, without a file."""
        self._lock = threading.Lock()
        self._slot: Slot | None = None
        self._open: dict[str, tuple[int, Reserve]] = {}
        self._posts: OrderedDict[int, Post] = OrderedDict()
        self._ids: Counter[str] = Counter()
        self._unwritten = 0

    def __len__(self) -> int:
        """Letters to be delivered, those of open calls not among them."""
        return len(self._posts)

    @property
    def open(self) -> int:
        """Calls that were let through and have not ended."""
        return len(self._open)

    @property
    def waits(self) -> bool:
        """Whether anything is there at all: a letter, or an open call that was let through."""
        return bool(self._ids)

    @property
    def unwritten(self) -> bool:
        """Whether letters are in memory only, since the disk could not be written."""
        return any(number <= 0 for number in self._posts)

    def __contains__(self, id: str) -> bool:
        """Whether something about this call is waiting: then what follows has to wait behind it."""
        return id in self._ids

    def admitted(self, id: str) -> Reserve | None:
        """The open call that was let through under this id."""
        return self._open[id][1] if id in self._open else None

    def take(self) -> list[Reserve]:
        """Take a file, if this process has none: the calls in it that dead processes let through. Raises OSError."""
        with self._lock:
            return list(admitted_in(self._own())) if self._slot is None else []

    def admit(self, call: Reserve) -> None:
        """Write down a call that is about to be let through. Raises OSError where that cannot be."""
        with self._lock:
            number = self._own().append(Letter(call))
            self._open[call.id] = number, call
            self._ids[call.id] += 1

    def put(self, letter: Letter) -> bool:
        """Keep what ends a call until it is delivered. False where no disk has it, only this process's memory."""
        with self._lock:
            durable, number = True, 0
            try:
                number = self._own().append(letter)
            except OSError as error:
                durable = False
                log.error("capguard: the outbox cannot be written, %s is in memory only: %s", letter.id, error)
            self._end(letter.id)
            self._unwritten -= not durable
            key = number or self._unwritten
            self._posts[key] = Post(key, letter)
            self._ids[letter.id] += 1
            return durable

    def first(self) -> Post | None:
        """The next letter to be delivered."""
        with self._lock:
            return next(iter(self._posts.values()), None)

    def delivered(self, post: Post) -> None:
        """The backend has it, or never will."""
        with self._lock:
            if self._posts.pop(post.number, None) is None:
                return
            self._forget(post.letter.id)
            self._mark(post.number)

    def put_aside(self, letter: Letter) -> None:
        """Keep a letter that the backend can make nothing of, for somebody to look at."""
        try:
            put_aside(self.folder / "undeliverable.bad", [letters.written(letter).encode()])
        except OSError as error:
            log.error("capguard: %s cannot be put aside either: %s", letter, error)

    def left_behind(self) -> Iterator[Slot]:
        """The files of dead processes of this host."""
        return orphans(self.folder)

    def close(self) -> None:
        """Leave the file to whoever comes next."""
        with self._lock:
            if self._slot is not None:
                self._slot.close()
                self._slot = None

    def _own(self) -> Slot:
        if self._slot is None:
            slot = own_slot(self.folder)
            for number, letter in slot.waiting.items():
                self._posts[number] = Post(number, ended(letter))
                self._ids[letter.id] += 1
            self._slot = slot
        return self._slot

    def _end(self, id: str) -> None:
        """A call that was let through has ended: what ends it is on disk and stands for it."""
        if id in self._open:
            number, _ = self._open.pop(id)
            self._forget(id)
            self._mark(number)

    def _forget(self, id: str) -> None:
        self._ids[id] -= 1
        if self._ids[id] <= 0:
            del self._ids[id]

    def _mark(self, number: int) -> None:
        if number <= 0 or self._slot is None:
            return
        try:
            self._slot.done(number)
        except OSError as error:  # it is delivered again after a restart, which changes nothing
            log.warning("capguard: the outbox cannot be written: %s", error)


def ended(letter: Letter) -> Letter:
    """A letter of a process that died: a call that it had let through ends as its policy says of expired holds."""
    call = letter.command
    if not isinstance(call, Reserve):
        return letter
    if call.on_expiry == "release":
        return Letter(Release(call.id, call.retention_ms))
    facts = {"flags": ["uncertain"], "cause": "outage"}
    return Letter(Settle(call.id, call.candidates[0].expected, facts, call.retention_ms), call)


def admitted_in(slot: Slot) -> Iterator[Reserve]:
    """The calls in a file that were let through while the backend was away."""
    for letter in slot.waiting.values():
        if isinstance(letter.command, Reserve):
            yield letter.command
        elif letter.call is not None and letter.call.facts.get("cause") == "outage":
            yield letter.call
