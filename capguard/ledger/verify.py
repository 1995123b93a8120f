"""Rebuild the meters from the journal and say where they differ from what is stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Set

from capguard.ledger.books import Books
from capguard.ledger.caps import Leg, Move, opening
from capguard.ledger.commands import Journal, Verify
from capguard.ledger.outcomes import Difference, Line, Record, Verified

PAGE = 2000

Key = tuple[str, int]
Sums = list[int]


def verify(books: Books, _command: Verify, now_ms: int) -> Verified:
    """Fold every entry's moves; each meter must show the same sums, and `held` must be what open reservations hold.

    Meters that are gone are not compared: a store drops them when it comes to it.
    """
    rebuilding = Rebuilding()
    for line in _all_lines(books):
        rebuilding.add(line)
    stored = sums_of(books.meters(now_ms))
    return rebuilding.compared(stored, books.open_reservations(), books.last_entry(), now_ms)


class Rebuilding:
    """The meters as the journal has them, entry by entry.

    For a store that goes on while it is read: `until` gives the last entry that a meter was read with, `holds_at` the
    one that the open reservations were.
    """

    def __init__(self, until: Callable[[str], int] | None = None, holds_at: int | None = None):
        self._until = until
        self._holds_at = holds_at
        self._sums: dict[Key, Sums] = defaultdict(lambda: [0, 0, 0])
        self._held: dict[Key, int] = defaultdict(int)
        self._gone: dict[Key, int] = {}
        self._count, self._last, self._gaps = 0, 0, 0

    def add(self, line: Line) -> None:
        """The next entry."""
        self._gaps += line.seq - self._last - 1
        self._count, self._last = self._count + 1, line.seq
        for move in moves_of(line):
            key = move.meter, move.period
            if self._until is None or line.seq <= self._until(move.meter):
                _add(self._sums[key], move[2:])
            if self._holds_at is not None and line.seq <= self._holds_at:
                self._held[key] += move.held
        self._gone |= gone_of(line)

    def compared(self, stored: dict[Key, Sums], reserved: Iterable[Record], last_entry: int, now_ms: int) -> Verified:
        """Where the store has other sums; `last_entry` is the newest that was ever made."""
        holds, reservations = _holds(reserved)
        closed = {key for key, at_ms in self._gone.items() if at_ms <= now_ms}
        held = {key: sums[1] for key, sums in stored.items()} if self._holds_at is None else self._held
        differences = [*_compare(self._sums, stored, closed), *_compare_holds(holds, held, closed)]
        gaps = self._gaps + max(0, last_entry - self._last)
        why = f"{gaps} entries are missing from the journal" if gaps else ""
        counts = self._count, len(stored), reservations
        return Verified(tuple(differences), *counts, complete=not gaps, why=why)


def sums_of(meters: Iterable[Move]) -> dict[Key, Sums]:
    """Settled, held and overrun by meter and period."""
    return {(each.meter, each.period): [each.settled, each.held, each.overrun] for each in meters}


def moves_of(line: Line) -> Iterable[Move]:
    """What an entry did to the meters: written out, or, for a reserve, what its legs say."""
    if line.kind in ("reserve", "book"):
        meters = [Leg(*leg) for leg in (*line.body["legs"], *line.body["sources"])]
        shares = zip(meters, line.body["shares"], strict=True)
        return [opening(leg, share, settled=line.kind == "book") for leg, share in shares]
    return [Move(*move) for move in line.body.get("moves", ())]


def gone_of(line: Line) -> Iterable[tuple[Key, int]]:
    """When the meters that an entry opened are gone."""
    if line.kind in ("reserve", "book"):
        legs = [Leg(*leg) for leg in (*line.body["legs"], *line.body["sources"])]
        return [((leg.meter, leg.period), leg.gone_ms) for leg in legs]
    if line.kind == "backfill":
        return [((move[0], move[1]), at_ms) for move, at_ms in zip(line.body["moves"], line.body["gone"], strict=True)]
    return ()


def _all_lines(books: Books) -> Iterator[Line]:
    after = 0
    while page := tuple(books.entries(Journal(after=after, limit=PAGE))):
        yield from page
        after = page[-1].seq


def _add(sums: Sums, change: Iterable[int]) -> None:
    for index, amount in enumerate(change):
        sums[index] += amount


def _holds(reserved: Iterable[Record]) -> tuple[dict[Key, int], int]:
    holds: dict[Key, int] = defaultdict(int)
    count = 0
    for record in reserved:
        count += 1
        for leg, share in zip(record.made.meters, record.shares, strict=True):
            holds[leg.meter, leg.period] += share
    return holds, count


def _compare(rebuilt: dict[Key, Sums], stored: dict[Key, Sums], closed: Set[Key]) -> Iterator[Difference]:
    nothing = [0, 0, 0]
    for key in (rebuilt.keys() | stored.keys()) - closed:
        expected, found = rebuilt.get(key, nothing), stored.get(key, nothing)
        for what, journal, actual in zip(Move._fields[2:], expected, found, strict=True):
            if journal != actual:
                yield Difference(*key, what, journal, actual)


def _compare_holds(holds: dict[Key, int], held: dict[Key, int], closed: Set[Key]) -> Iterator[Difference]:
    for key in (holds.keys() | held.keys()) - closed:
        if holds.get(key, 0) != held.get(key, 0):
            yield Difference(*key, "held by open reservations", holds.get(key, 0), held.get(key, 0))
