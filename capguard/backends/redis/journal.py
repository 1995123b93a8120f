"""The journal in a stream: entry n has the id n-0, so that it is found by its number."""

from __future__ import annotations

from collections.abc import Iterable

from capguard.backends.redis.archive import Archive
from capguard.backends.redis.store import Store, Talk
from capguard.backends.redis.wire import read_line
from capguard.ledger.commands import Journal
from capguard.ledger.outcomes import Line

CHUNK = 500
"""Entries that are read in one step."""


class Journals:
    """Reads the entries of one store, and those that were archived where it knows the archive."""

    def __init__(self, store: Store, archive: Archive | None = None):
        self._store = store
        self._archive = archive

    def lines(self, wanted: Iterable[int]) -> Talk[dict[int, Line]]:
        """These entries, by number, as far as they are still there."""
        found = {}
        for seq in wanted:
            there = yield from self._range(seq, seq, 1)
            if not there and self._archive is not None:
                there = [line for line in self._archive.lines(seq, 1) if line.seq == seq]
            for line in there:
                found[line.seq] = line
        return found

    def stored(self, first: int, count: int) -> Talk[list[Line]]:
        """So many entries of the store itself from number `first` on."""
        return (yield from self._range(first, None, count))

    def page(self, page: Journal, *, placed: bool = False) -> Talk[tuple[Line, ...]]:
        """One page, oldest first. With `placed`, nothing behind `after` is before `since_ms`: it is not looked for."""
        found: list[Line] = []
        after, more = page.after, True
        if page.since_ms is not None and not placed:
            after = max(after, (yield from self.first_since(page.since_ms)) - 1)
        while more and len(found) < page.limit:
            count = CHUNK if page.user is not None else min(CHUNK, page.limit - len(found))
            chunk = yield from self._chunk(after + 1, count)
            found += [line for line in chunk if _in_page(line, page)]
            more = len(chunk) == count and (page.until_ms is None or chunk[-1].at_ms < page.until_ms)
            after = chunk[-1].seq if chunk else after
        return tuple(found[: page.limit])

    def _chunk(self, first: int, count: int) -> Talk[list[Line]]:
        """The next entries, from the archive as far as it goes; fewer than `count` are the last ones."""
        archived = [] if self._archive is None else self._archive.lines(first, count)
        if len(archived) == count:
            return archived
        after = archived[-1].seq if archived else first - 1
        return archived + (yield from self._range(after + 1, None, count - len(archived)))

    def _range(self, first: int, last: int | None, count: int) -> Talk[list[Line]]:
        until = "+" if last is None else f"{last}-0"
        reply = yield from self._store.ask("range", ["log", f"{first}-0", until, count])
        return [read_line(entry) for entry in reply[3]]

    def first_since(self, since_ms: int) -> Talk[int]:
        """The number of the first entry at that time or later: time never runs backward in a journal."""
        if self._archive is not None and (archived := self._archive.first_since(since_ms)) is not None:
            return archived
        newest = [read_line(entry) for entry in (yield from self._store.ask("range", ["newest"]))[3]]
        if not newest or newest[0].at_ms < since_ms:
            return newest[0].seq + 1 if newest else 0
        first = yield from self._range(0, None, 1)
        low, high = first[0].seq, newest[0].seq
        while low < high:
            middle = (low + high) // 2
            line = yield from self._range(middle, None, 1)
            low, high = (low, middle) if not line or line[0].at_ms >= since_ms else (middle + 1, high)
        return low


def _in_page(line: Line, page: Journal) -> bool:
    return (
        (page.user is None or line.user == page.user)
        and (page.since_ms is None or line.at_ms >= page.since_ms)
        and (page.until_ms is None or line.at_ms < page.until_ms)
    )
