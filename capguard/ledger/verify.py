"""Rebuild the meters from the journal and say where they differ from what is stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Set

from capguard.ledger.books import Books
from capguard.ledger.caps import Leg, Move, opening
from capguard.ledger.commands import Journal, Verify
from capguard.ledger.outcomes import Difference, Line, Verified

PAGE = 2000

Key = tuple[str, int]
Sums = list[int]


def verify(books: Books, _command: Verify, now_ms: int) -> Verified:
    """Fold every entry's moves; each meter must show the same sums, and `held` must be what open reservations hold.

    Meters that are gone are not compared: a store drops them when it comes to it.
    """
    rebuilt: dict[Key, Sums] = defaultdict(lambda: [0, 0, 0])
    gone: dict[Key, int] = {}
    count, last, gaps = 0, 0, 0
    for line in _all_lines(books):
        gaps += line.seq - last - 1
        count, last = count + 1, line.seq
        for meter, period, *change in moves_of(line):
            _add(rebuilt[meter, period], change)
        gone |= gone_of(line)
    gaps += books.last_entry() - last
    stored = {(m.meter, m.period): [m.settled, m.held, m.overrun] for m in books.meters()}
    holds, reservations = _holds(books)
    closed = {key for key, at_ms in gone.items() if at_ms <= now_ms}
    differences = [*_compare(rebuilt, stored, closed), *_compare_holds(holds, stored, closed)]
    why = f"{gaps} entries are missing from the journal" if gaps else ""
    return Verified(tuple(differences), count, len(stored), reservations, complete=not gaps, why=why)


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


def _holds(books: Books) -> tuple[dict[Key, int], int]:
    holds: dict[Key, int] = defaultdict(int)
    count = 0
    for record in books.open_reservations():
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


def _compare_holds(holds: dict[Key, int], stored: dict[Key, Sums], closed: Set[Key]) -> Iterator[Difference]:
    for key in (holds.keys() | {key for key, sums in stored.items() if sums[1]}) - closed:
        held = stored[key][1] if key in stored else 0
        if holds.get(key, 0) != held:
            yield Difference(*key, "held by open reservations", holds.get(key, 0), held)
