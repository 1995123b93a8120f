"""Whether a call fits: the rule of admission, the way down the cheaper models, the output that still fits.

A call is admitted iff `settled + held + x <= limit` for every enforcing cap: equality passes, a leg of 0 passes, and
overrun never makes room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from capguard.ledger.books import Books
from capguard.ledger.caps import Amounts, Leg, MeterState
from capguard.ledger.commands import Candidate
from capguard.ledger.outcomes import Refused
from capguard.ledger.sources import shares

CLAMP_SHARE = 2
"""A clamped call holds at most one part in this many of a cap's limit."""


class Verdict(NamedTuple):
    """Which candidate serves and what it puts on each of its meters; what was passed, and what refuses."""

    chosen: int
    held: Amounts
    shares: tuple[int, ...]
    passed: tuple[Refused, ...]
    refused: tuple[Refused, ...]
    output: int | None = None


class Fit(NamedTuple):
    """One candidate against the meters as they stand."""

    candidate: Candidate
    meters: tuple[MeterState, ...]
    rooms: tuple[int, ...]

    def shares(self, amounts: Amounts) -> tuple[int, ...]:
        return shares(self.candidate.legs, self.candidate.sources, amounts, self.rooms)

    def misses(self, on_each: Sequence[int]) -> list[Refused]:
        """The legs that do not fit."""
        legs = zip(self.candidate.legs, on_each, self.meters, strict=False)
        return [Refused(leg, amount, meter) for leg, amount, meter in legs if amount and not fits(leg, amount, meter)]


def judge(books: Books, candidates: tuple[Candidate, ...]) -> Verdict:
    """Judge a call. A downgrade cap that does not fit names the next candidate; all others are judged on the chosen."""
    index = 0
    steered: list[Refused] = []
    while True:
        fit = _fit(books, candidates[index])
        on_each = fit.shares(fit.candidate.held)
        misses = fit.misses(on_each)
        steps = [miss for miss in misses if index < miss.leg.step < len(candidates)]
        if not steps:
            break
        steered += steps
        index = max(miss.leg.step for miss in steps)
    verdict = _verdict(books, index, fit.candidate.held, on_each, steered, misses)
    return _clamped(books, fit, verdict, steered) if any(miss.leg.action == "clamp" for miss in misses) else verdict


def _fit(books: Books, candidate: Candidate) -> Fit:
    meters = tuple([books.meter(leg) for leg in candidate.legs])
    rooms = tuple([source.limit - books.meter(source).used for source in candidate.sources])
    return Fit(candidate, meters, rooms)


def _verdict(
    books: Books,
    index: int,
    held: Amounts,
    on_each: tuple[int, ...],
    steered: Sequence[Refused],
    misses: Sequence[Refused],
) -> Verdict:
    refused = tuple([miss for miss in misses if refuses(miss.leg)])
    if refused and all(miss.leg.action == "throttle" for miss in refused):
        refused = tuple([_timed(books, miss) for miss in refused])
    told: dict[str, Refused] = {}
    for miss in steered:  # a cap that leads down two steps is told once, with what it would not let pass first
        told.setdefault(miss.leg.meter, miss)
    passed = (*told.values(), *(miss for miss in misses if not refuses(miss.leg) and miss.leg.meter not in told))
    return Verdict(index, held, on_each, passed, refused)


def _clamped(books: Books, fit: Fit, verdict: Verdict, steered: Sequence[Refused]) -> Verdict:
    """The same with the longest output that fits every clamp cap; as it was where not even the shortest does."""
    scale = fit.candidate.scale
    if scale is None:
        return verdict
    clamps = [miss for miss in verdict.refused if miss.leg.action == "clamp"]
    low, high = max(miss.leg.min_output for miss in clamps), scale.output - 1
    if low > high or not _clamp_fits(fit, scale.at(low)):
        shortest = fit.misses(fit.shares(scale.at(min(low, scale.output))))
        refused = tuple(miss for miss in shortest if refuses(miss.leg))
        return verdict._replace(refused=refused) if refused else verdict  # what even the shortest lacks says why
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _clamp_fits(fit, scale.at(middle)) else (low, middle - 1)
    held = scale.at(low)
    on_each = fit.shares(held)
    clamped = _verdict(books, verdict.chosen, held, on_each, [*steered, *clamps], fit.misses(on_each))
    return clamped._replace(output=low)


def _timed(books: Books, miss: Refused) -> Refused:
    """When what is settled under a throttle cap will have left enough room."""
    leg = miss.leg
    lacking = miss.meter.settled + miss.amount - leg.limit
    for period, settled in books.periods(leg):
        if lacking <= 0:
            break
        lacking -= settled
        miss = miss._replace(frees_ms=leg.ends - (leg.period - period))
    return miss


def _clamp_fits(fit: Fit, amounts: Amounts) -> bool:
    legs = zip(fit.candidate.legs, fit.shares(amounts), fit.meters, strict=False)
    return all(
        fits(leg, amount, meter) and amount <= leg.limit // CLAMP_SHARE
        for leg, amount, meter in legs
        if leg.action == "clamp"
    )


def fits(leg: Leg, amount: int, meter: MeterState) -> bool:
    return meter.settled + meter.held + amount <= leg.limit


def refuses(leg: Leg) -> bool:
    return leg.enforcing or (leg.action == "downgrade" and leg.otherwise == "block")
