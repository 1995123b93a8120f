"""The price book in force: read from its source, reviewed, and swapped whole. No call ever waits for that."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from datetime import date, timedelta
from typing import NamedTuple

from capguard.pricing.book import PriceBook, bundled
from capguard.pricing.review import Doubt, reviewed, shrank
from capguard.pricing.sources import Bundled, Listing, PriceSource

log = logging.getLogger("capguard")

EVERY_S = 30.0
"""Seconds between two looks at a source that may change."""

_FIRST_DAY, _DAY_MS = date(1970, 1, 1), 24 * 3600 * 1000
_FOREVER_MS = 2**62


class Report(NamedTuple):
    """What became of a price list: `version` is the book's that is in force now; `doubts` are prices that are not."""

    version: str
    models: int
    doubts: tuple[Doubt, ...]
    refused: str | None = None


class _Day(NamedTuple):
    book: PriceBook
    from_ms: int
    until_ms: int


class Shelf:
    """One source's prices over the bundled ones. `tell` hears of every list that was read with doubts, or refused.

    Raises ValueError where the first list cannot be read. Later ones that cannot are refused: the last one stays.
    """

    def __init__(self, source: PriceSource | None = None, tell: Callable[[Report], None] | None = None):
        self.source = Bundled() if source is None else source
        self._tell = tell or _log
        self._lock = threading.Lock()
        self._stamp = self.source.stamp()
        self._listed = 0
        self.report = Report(bundled().version, len(bundled()), ())
        self._book = bundled()
        self._today = _Day(bundled(), 0, 0)
        if not isinstance(self.source, Bundled):
            try:
                self._take(self.source.read())
            except OSError as error:
                raise ValueError(f"prices: {error}; allowed: bundled, litellm, or the path of a price list") from None

    def at(self, now_ms: int) -> PriceBook:
        """The prices that hold at a time."""
        today = self._today
        if not today.from_ms <= now_ms < today.until_ms:
            self._today = today = self._on(_FIRST_DAY + timedelta(milliseconds=now_ms))
        return today.book

    def refresh(self) -> bool:
        """Look at the source; take in its list if it is another one. Whether the prices in force have changed."""
        with self._lock:
            stamp = self.source.stamp()
            if stamp is None or stamp == self._stamp:
                return False
            self._stamp = stamp
            try:
                return self._take(self.source.read())
            except (OSError, ValueError) as error:
                self._refuse(str(error))
                return False

    def watch(self) -> None:
        """Look at the source now and then, in a thread that ends with this shelf."""
        if not isinstance(self.source, Bundled):
            threading.Thread(target=_watch, args=(weakref.ref(self),), name="capguard-prices", daemon=True).start()

    def _take(self, listing: Listing) -> bool:
        if shrank(len(listing.rows), self._listed):
            self._refuse(f"{listing.source}: {len(listing.rows)} models after {self._listed}: the list is not whole")
            return False
        before = self._book
        believed, doubts = reviewed(listing.rows, listing.later, before, listing.meant)
        kept = {doubt.model: before.row(doubt.model) for doubt in doubts if doubt.model in before.names}
        later = {name: rows for name, rows in listing.later.items() if name in believed}
        self._book = bundled().under({**believed, **kept}, later, listing.as_of, listing.source)
        self._listed, self._today = len(listing.rows), _Day(self._book, 0, 0)
        self.report = Report(self._book.version, len(self._book), doubts)
        if doubts:
            self._tell(self.report)
        return before.version != self._book.version

    def _refuse(self, why: str) -> None:
        self.report = self.report._replace(refused=why)
        self._tell(self.report)

    def _on(self, day: date) -> _Day:
        book = self._book.on(day)
        change = book.next_change()
        until_ms = _FOREVER_MS if change is None else (change - _FIRST_DAY).days * _DAY_MS
        return _Day(book, (day - _FIRST_DAY).days * _DAY_MS, until_ms)


def _log(report: Report) -> None:
    if report.refused:
        log.error("capguard: a price list was refused, the last one stays in force: %s", report.refused)
    for doubt in report.doubts[:20]:
        log.warning("capguard: a price is not believed, the last one stays in force: %s", doubt)


def _watch(shelf: weakref.ref[Shelf]) -> None:
    waiting = threading.Event()
    while True:
        waiting.wait(EVERY_S)
        found = shelf()
        if found is None:
            return
        found.refresh()
        del found
