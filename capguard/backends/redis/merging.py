"""The journals of all shards as one, by time: the number of an entry tells its shard."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Any

from capguard.backends.redis.ledger import Ledger
from capguard.backends.redis.store import Talk
from capguard.ledger.commands import Journal
from capguard.ledger.outcomes import Line, Lines, Outcome

READERS = 64
"""Readers whose places are remembered; another one has its place looked up by the time of the entry it is at."""

AGAIN_MS = 5000
"""How far behind the entry that a reader is at the other shards are read again, where its place is not remembered.

While it read, entries may have come in to shards that it had passed, and the clocks of masters are apart: it is given
what it may have missed, and with it entries that it has. Each has its number for good, by which it knows them.
"""

_LEAST = 16
"""Entries that are read of a shard at once, at least."""

Key = tuple[Any, ...]


def number_of(seq: int, shard: int, shards: int) -> int:
    """The number of a shard's entry among those of all; 0 stays 0, which is none."""
    return seq * shards + shard if seq else 0


class Place:
    """How far a reader has come: the last entry of each shard that it was given, and those that were read ahead.

    What is older than `at_ms` it may have been given before.
    """

    def __init__(self, after: Mapping[int, int], at_ms: int):
        self.given = dict(after)
        self.at_ms = at_ms
        self.ahead: dict[int, deque[Line]] = {shard: deque() for shard in after}
        self._dry: set[int] = set()

    def begin(self) -> None:
        """There may be more in shards that had no more."""
        self._dry.clear()

    def fill(self, ledgers: Sequence[Ledger], page: Journal) -> Talk[None]:
        """Read ahead in every shard, so that the oldest entry that was not given yet is there."""
        count = max(_LEAST, page.limit // len(self.ahead))
        for shard, lines in self.ahead.items():
            if not lines and shard not in self._dry:
                wanted = page._replace(after=self.given[shard], limit=count)
                lines.extend((yield from ledgers[shard].journals.page(wanted, placed=True)))
                if len(lines) < count:
                    self._dry.add(shard)

    def next(self) -> tuple[int, Line] | None:
        """The oldest entry that is there, and its shard."""
        heads = [(lines[0].at_ms, shard) for shard, lines in self.ahead.items() if lines]
        if not heads:
            return None
        shard = min(heads)[1]
        line = self.ahead[shard].popleft()
        self.given[shard] = line.seq
        return shard, line


class Merging:
    """Reads the journals of shards page by page, oldest first."""

    def __init__(self, ledgers: Sequence[Ledger]):
        self._ledgers = ledgers
        self._places: OrderedDict[Key, Place] = OrderedDict()

    def page(self, page: Journal, shards: Sequence[int]) -> Talk[Outcome]:
        """One page of these shards. What is given again comes on top of it, so that the next page is a later one."""
        place = self._places.pop(_key(page, page.after), None) or (yield from self._found(page, shards))
        place.begin()
        lines: list[Line] = []
        wanted = page.limit
        while len(lines) < wanted:
            yield from place.fill(self._ledgers, page)
            if (found := place.next()) is None:
                break
            shard, line = found
            wanted += line.at_ms < place.at_ms
            lines.append(line._replace(seq=number_of(line.seq, shard, len(self._ledgers))))
        self._keep(_key(page, lines[-1].seq if lines else page.after), place)
        return Lines(tuple(lines), (yield from self._now_ms(shards[0])))

    def _found(self, page: Journal, shards: Sequence[int]) -> Talk[Place]:
        """Where a reader is that nobody remembers: behind its entry, and in the other shards some seconds before that.

        Of an entry that was archived elsewhere nobody knows the time any more: then at the beginning of the others.
        """
        seq, own = divmod(page.after, len(self._ledgers))
        found = (yield from self._ledgers[own].journals.lines([seq] if seq else [])).get(seq)
        at_ms = found.at_ms if found else 0
        since_ms = max(page.since_ms or 0, at_ms - AGAIN_MS)
        after = {shard: seq if shard == own else 0 for shard in shards}
        for shard in shards if since_ms > 0 else ():
            first = yield from self._ledgers[shard].journals.first_since(since_ms)
            after[shard] = max(after[shard], first - 1)
        return Place(after, at_ms)

    def _now_ms(self, shard: int) -> Talk[int]:
        found = yield from self._ledgers[shard].carry_out(Journal(limit=0))
        assert isinstance(found, Lines)
        return found.now_ms

    def _keep(self, key: Key, place: Place) -> None:
        self._places[key] = place
        while len(self._places) > READERS:
            self._places.popitem(last=False)


def _key(page: Journal, after: int) -> Key:
    return (after, page.user, page.since_ms, page.until_ms)
