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

_LEAST = 16
"""Entries that are read of a shard at once, at least."""

Key = tuple[Any, ...]


def number_of(seq: int, shard: int, shards: int) -> int:
    """The number of a shard's entry among those of all; 0 stays 0, which is none."""
    return seq * shards + shard if seq else 0


class Place:
    """How far a reader has come: the last entry of each shard that it was given, and those that were read ahead."""

    def __init__(self, after: Mapping[int, int]):
        self.given = dict(after)
        self.ahead: dict[int, deque[Line]] = {shard: deque() for shard in after}
        self.now_ms = 0
        self._dry: set[int] = set()

    def begin(self) -> None:
        """There may be more in shards that had no more."""
        self._dry.clear()

    def fill(self, ledgers: Sequence[Ledger], page: Journal) -> Talk[None]:
        """Read ahead in every shard, so that the oldest entry that was not given yet is there."""
        count = max(_LEAST, page.limit // len(self.ahead))
        for shard, lines in self.ahead.items():
            if not lines and shard not in self._dry:
                found = yield from ledgers[shard].carry_out(page._replace(after=self.given[shard], limit=count))
                assert isinstance(found, Lines)
                lines.extend(found.lines)
                self.now_ms = max(self.now_ms, found.now_ms)
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
        """One page of these shards."""
        place = self._places.pop(_key(page, page.after), None) or (yield from self._found(page.after, shards))
        place.begin()
        lines: list[Line] = []
        while len(lines) < page.limit:
            yield from place.fill(self._ledgers, page)
            if (found := place.next()) is None:
                break
            shard, line = found
            lines.append(line._replace(seq=number_of(line.seq, shard, len(self._ledgers))))
        self._keep(_key(page, lines[-1].seq if lines else page.after), place)
        return Lines(tuple(lines), place.now_ms)

    def _found(self, after: int, shards: Sequence[int]) -> Talk[Place]:
        seq, own = divmod(after, len(self._ledgers))
        places = {shard: seq if shard == own else 0 for shard in shards}
        found = yield from self._ledgers[own].journals.lines([seq] if seq else [])
        for shard in shards if seq in found else ():
            since_ms = found[seq].at_ms + (shard < own)  # of one time, the shards come in their order
            first = yield from self._ledgers[shard].journals.first_since(since_ms)
            places[shard] = seq if shard == own else max(0, first - 1)
        return Place(places)

    def _keep(self, key: Key, place: Place) -> None:
        self._places[key] = place
        while len(self._places) > READERS:
            self._places.popitem(last=False)


def _key(page: Journal, after: int) -> Key:
    return (after, page.user, page.since_ms, page.until_ms)
