"""How a reservation ends: its hold is replaced by what is booked, in one place for settle, release and expiry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from capguard.ledger.books import Books
from capguard.ledger.caps import Amounts, Leg, Move
from capguard.ledger.idle import use
from capguard.ledger.outcomes import Crossing, Made, Record, State
from capguard.ledger.revisions import revoked_grants
from capguard.ledger.sources import GRANT, INCLUDED, room_of_own, shares

SWEEP_BATCH = 100
"""Reservations that one step ends or forgets at most."""

FULL_PPM = 1_000_000
"""The limit itself, as a threshold in millionths."""


def book(
    books: Books, record: Record, state: State, kind: str, amounts: Amounts, facts: Mapping[str, Any], now_ms: int
) -> tuple[Record, tuple[Crossing, ...]]:
    """Replace what `record` holds or has booked by `amounts`; what goes beyond a limit is that meter's overrun.

    The record as it is now, and the thresholds that were crossed.
    """
    moves: list[Move] = []
    overrun: dict[str, int] = {}
    holding = record.state == "held"
    new = shares_of(books, record, amounts, now_ms)
    legs = record.made.meters
    for leg, old, share in zip(legs, record.shares, new, strict=True):
        if now_ms >= leg.gone_ms:
            continue
        excess = _excess(books, leg, share - old, now_ms) if share > old else 0
        if excess and leg.enforcing:
            overrun[leg.unit] = max(excess, overrun.get(leg.unit, 0))
        settled, held = (share, -old) if holding else (share - old, 0)
        moves.append(Move(leg.meter, leg.period, settled, held, excess))
    after = books.move(moves)
    open_legs = [leg for leg in legs if now_ms < leg.gone_ms] if len(moves) < len(legs) else legs
    crossed = crossings(books, record.made, open_legs, [move.settled for move in moves], after, now_ms)
    if holding and kind == "settle":
        use(books, legs, now_ms)
    if overrun:  # the caller knows better where it says so itself
        facts = {"cause": "above_estimate" if holding else "late", **facts}
    body = {"amounts": amounts, "facts": facts, "overrun": overrun, "moves": moves}
    entry = books.append(now_ms, kind, record.id, record.user, body)
    ended = record._replace(state=state, shares=new, booked=amounts, overrun=overrun, entry=entry)
    books.update(final(ended, now_ms) if state == "settled" else ended, now_ms + record.made.retention_ms)
    return ended, crossed


def final(record: Record, now_ms: int) -> Record:
    """What is remembered of a call that changes no more: what was made and what was booked, not its shares."""
    return record._replace(state="settled", shares=(), expires_ms=now_ms)


def crossings(
    books: Books, made: Made, legs: Sequence[Leg], grown: Sequence[int], after: Sequence[int], now_ms: int
) -> tuple[Crossing, ...]:
    """The thresholds that meters crossed as they grew to what is settled `after`, each told once in its period.

    A rolling window has no period of its own and tells none; a source tells when it is used up.
    """
    crossed = []
    for leg, growth, settled in zip(legs, grown, after, strict=True):
        if growth <= 0 or leg.rolling:
            continue
        for ppm in (FULL_PPM,) if leg.action in (INCLUDED, GRANT) else made.thresholds:
            mark = leg.limit * ppm
            if (settled - growth) * FULL_PPM < mark <= settled * FULL_PPM and books.alert(leg, ppm, now_ms):
                crossed.append(Crossing(leg, ppm, settled, made.identity))
    return tuple(crossed)


def shares_of(books: Books, record: Record, amounts: Amounts, now_ms: int) -> tuple[int, ...]:
    """What `amounts` of a call that is in the books put on each of its meters: it pays first from what it holds."""
    legs, sources = record.made.legs, record.made.sources
    own = record.shares[len(legs) :]
    revoked = revoked_grants(books, record.user) if any(source.action == GRANT for source in sources) else ()
    rooms = [
        room if source.cap in revoked else room_of_own(source, books.meter(source).used, room, now_ms)
        for source, room in zip(sources, own, strict=True)
    ]
    return shares(legs, sources, amounts, rooms)


def _excess(books: Books, leg: Leg, growth: int, now_ms: int) -> int:
    """How much of what a meter is about to grow by lies beyond its limit."""
    used = books.meter(window_on(leg, now_ms)).used
    return max(0, used + growth - max(leg.limit, used))


def window_on(leg: Leg, now_ms: int) -> Leg:
    """The leg of a reserve, whose period is not gone, as its window is on now.

    A rolling window counts what is in it now, which is not what was in it at the reserve.
    """
    if not leg.rolling:
        return leg
    return leg._replace(since=now_ms - (leg.ends - leg.period) + 1, period=now_ms)


def sweep(books: Books, now_ms: int, crossed: list[Crossing]) -> int:
    """End what is overdue, with no daemon: expired holds are booked as stated, ended ones forgotten. How many.

    Thresholds that an expiry crosses are added to `crossed`, to be told with the answer of this step.
    """
    overdue = books.due(now_ms, SWEEP_BATCH)
    books.close(now_ms, SWEEP_BATCH)
    for record in overdue:
        if record.state == "held":
            amounts = record.made.expected if record.made.on_expiry == "charge_expected" else {}
            facts = {"flags": ["uncertain"], "cause": "expired"} if amounts else {"cause": "expired"}
            crossed += book(books, record, "expired", "expire", amounts, facts, now_ms)[1]
        else:
            books.forget(record.id)
    return len(overdue)
