"""Who pays: the included allowance, then grants in their order, then nobody: overage. What each cap counts of it."""

from __future__ import annotations

from collections.abc import Sequence

from capguard.ledger.caps import Amounts, Leg

INCLUDED = "included"
GRANT = "grant"


def shares(legs: Sequence[Leg], sources: Sequence[Leg], amounts: Amounts, rooms: Sequence[int]) -> tuple[int, ...]:
    """What one call puts on every leg, then what it draws from every source that has `rooms` to pay.

    All sources are in one unit, the plan's. A cap in that unit with `overage_only` leaves out what the allowance pays,
    one with `ignore_grants` what grants pay.
    """
    if not sources:
        return tuple([amounts.get(leg.unit, 0) for leg in legs])
    unit = sources[0].unit
    draws = waterfall(amounts.get(unit, 0), rooms)
    included = sum(draw for source, draw in zip(sources, draws, strict=True) if source.action == INCLUDED)
    granted = sum(draws) - included
    return (*(counted(leg, amounts, unit, included, granted) for leg in legs), *draws)


def counted(leg: Leg, amounts: Amounts, unit: str | None, included: int, granted: int) -> int:
    """What a cap counts of a call for which sources in `unit` paid so much."""
    amount = amounts.get(leg.unit, 0)
    if leg.unit != unit:
        return amount
    return amount - (included if leg.overage_only else 0) - (granted if leg.ignore_grants else 0)


def waterfall(amount: int, rooms: Sequence[int]) -> tuple[int, ...]:
    """`amount` drawn from rooms in their order; what is left over is overage."""
    draws = []
    for room in rooms:
        draw = min(amount, max(0, room))
        draws.append(draw)
        amount -= draw
    return tuple(draws)


def room_of_own(source: Leg, used: int, own: int, now_ms: int) -> int:
    """What a source can pay for a call that holds or booked `own` of it already: that part is the call's for good.

    A grant that has ended pays nothing else. An allowance whose period is over does: the call belongs to that period.
    """
    ended = source.action == GRANT and now_ms >= source.ends
    return own if ended else max(own, source.limit - used + own)
