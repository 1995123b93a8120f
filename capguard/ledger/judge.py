"""Whether a call fits: the rule of admission, and the way down the cheaper models.

A call is admitted iff `settled + held + x <= limit` for every enforcing cap: equality passes, a leg of 0 passes, and
overrun never makes room.
"""

from __future__ import annotations

from capguard.ledger.books import Books
from capguard.ledger.caps import Leg, MeterState
from capguard.ledger.commands import Candidate
from capguard.ledger.outcomes import Refused


def judge(books: Books, candidates: tuple[Candidate, ...]) -> tuple[int, tuple[Refused, ...], tuple[Refused, ...]]:
    """Which candidate serves, the legs that did not fit but let it pass, and the legs that refuse.

    A downgrade cap that does not fit names the next candidate; all other caps are judged on the chosen one.
    """
    index = 0
    steered: list[Refused] = []
    while True:
        misses = _misses(books, candidates[index])
        steps = [miss for miss in misses if index < miss.leg.step < len(candidates)]
        if not steps:
            break
        steered += steps
        index = max(miss.leg.step for miss in steps)
    refused = tuple(miss for miss in misses if refuses(miss.leg))
    passed = (*steered, *(miss for miss in misses if not refuses(miss.leg)))
    return index, passed, refused


def _misses(books: Books, candidate: Candidate) -> list[Refused]:
    held = candidate.held
    return [
        Refused(leg, amount, meter)
        for leg in candidate.legs
        if (amount := held.get(leg.unit, 0)) and not fits(leg, amount, meter := books.meter(leg))
    ]


def fits(leg: Leg, amount: int, meter: MeterState) -> bool:
    return meter.settled + meter.held + amount <= leg.limit


def refuses(leg: Leg) -> bool:
    return leg.enforcing or (leg.action == "downgrade" and leg.otherwise == "block")
