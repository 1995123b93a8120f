"""The journal in a stream: entry n has the id n-0, so that it is found by its number."""

from __future__ import annotations

from collections.abc import Iterable

from capguard.backends.redis.store import Store, Talk
from capguard.backends.redis.wire import read_line
from capguard.ledger.commands import Journal
from capguard.ledger.outcomes import Line

CHUNK = 500
"""Entries that are read in one step."""


class Journals:
    """Reads the entries of one store."""

    def __init__(self, store: Store):
        self._store = store

    def lines(self, wanted: Iterable[int]) -> Talk[dict[int, Line]]:
        """These entries, by number, as far as they are still there."""
        found = {}
        for seq in wanted:
            for line in (yield from self._range(seq, seq, 1)):
                found[line.seq] = line
        return found

    def page(self, page: Journal) -> Talk[tuple[Line, ...]]:
        """One page, oldest first."""
        found: list[Line] = []
        after = page.after
        if page.since_ms is not None:
            after = max(after, (yield from self._first_since(page.since_ms)) - 1)
        while len(found) < page.limit:
            chunk = yield from self._range(after + 1, None, CHUNK)
            if not chunk or (page.until_ms is not None and chunk[0].at_ms >= page.until_ms):
                break
            found += [line for line in chunk if _in_page(line, page)]
            after = chunk[-1].seq
        return tuple(found[: page.limit])

    def _range(self, first: int, last: int | None, count: int) -> Talk[list[Line]]:
        until = "+" if last is None else f"{last}-0"
        reply = yield from self._store.ask("range", ["log", f"{first}-0", until, count])
        return [read_line(entry) for entry in reply[3]]

    def _first_since(self, since_ms: int) -> Talk[int]:
        """The number of the first entry at that time or later: time never runs backward in a journal."""
        first = yield from self._range(0, None, 1)
        newest = yield from self._store.ask("range", ["newest"])
        if not first or not newest[3]:
            return 0
        low, high = first[0].seq, read_line(newest[3][0]).seq + 1
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
