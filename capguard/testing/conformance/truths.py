"""What must be true of every answer, whoever gives it: seen from outside, with none of the ledger's own rules."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from capguard.ledger.caps import Amounts, MeterState
from capguard.ledger.commands import Reserve
from capguard.ledger.outcomes import Denied, Held, Record, Telling
from capguard.ledger.sources import INCLUDED

Mark = tuple[str, int, int]
"""Meter, period and threshold of a crossing."""


def all_is_paid(record: Record, amounts: Amounts) -> None:
    """Sources and overage make up the amount, and every cap counts of it what its flags leave."""
    made, draws = record.made, draws_of(record)
    included = sum(draw for source, draw in zip(made.sources, draws, strict=True) if source.action == INCLUDED)
    granted = sum(draws) - included
    overage = amounts.get("usd", 0) - included - granted
    assert min(0, overage, *draws) == 0, record
    for leg, share in zip(made.legs, record.shares, strict=False):
        paid = included * leg.overage_only + granted * leg.ignore_grants if leg.unit == "usd" else 0
        assert share == amounts.get(leg.unit, 0) - paid, leg


def none_is_passed_over(
    record: Record, amounts: Amounts, after: Sequence[MeterState], revoked: Collection[str], now_ms: int
) -> None:
    """A later source, or nobody, pays only where an earlier one has paid all it can or may pay no more."""
    left = amounts.get("usd", 0)
    for source, draw, meter in zip(record.made.sources, draws_of(record), after, strict=True):
        left -= draw
        if left and source.cap not in revoked and now_ms < source.ends:
            assert meter.used >= source.limit, source


def own_parts_are_kept(before: Record, after: Record, amounts: Amounts) -> None:
    """What a call held of a source pays for it, as far as it is needed."""
    left = amounts.get("usd", 0)
    for own, draw in zip(draws_of(before), draws_of(after), strict=True):
        assert draw >= min(own, left), after
        left -= draw


def it_fits(held: Held, after: Sequence[MeterState]) -> None:
    """Admission, judged against the limits on the entry: all that counts now is within them."""
    for leg, share, meter in zip(held.record.made.legs, held.record.shares, after, strict=False):
        if leg.enforcing and share:
            assert meter.used <= leg.limit, leg


def it_is_as_long_as_can_be(command: Reserve, held: Held, after: Sequence[MeterState]) -> None:
    """A clamped call holds what its output costs, at most half of a clamp cap; one token more would not have done.

    Of the caps that clamp none leaves out what sources pay.
    """
    made, scale = held.record.made, command.candidates[held.chosen].scale
    if held.output is None:
        assert made.held == command.candidates[held.chosen].held, command
        return
    assert scale is not None
    assert made.held == scale.at(held.output), command
    longer = scale.at(held.output + 1)
    clamps = [(leg, meter) for leg, meter in zip(made.legs, after, strict=False) if leg.action == "clamp"]
    steps = [(leg, made.held.get(leg.unit, 0), longer.get(leg.unit, 0), meter) for leg, meter in clamps]
    assert all(amount <= leg.limit // 2 for leg, amount, _, _ in steps), command
    assert any(more > leg.limit // 2 or meter.used - now + more > leg.limit for leg, now, more, meter in steps), command
    assert held.output >= max(miss.leg.min_output for miss in held.passed if miss.leg.action == "clamp"), command


def it_does_not_fit(denied: Denied) -> None:
    """Every cap that is named lacks the room."""
    assert denied.refused
    for miss in denied.refused:
        assert miss.meter.used + miss.amount > miss.leg.limit, miss


def it_is_news(outcome: Telling, known: Collection[Mark]) -> set[Mark]:
    """Thresholds that are told were reached, and were never told before. Which they are."""
    marks = set()
    for leg, ppm, settled, _ in outcome.crossed:
        mark = leg.meter, leg.period, ppm
        assert settled * 1_000_000 >= leg.limit * ppm, mark
        assert mark not in known, mark
        assert mark not in marks, mark
        marks.add(mark)
    return marks


def draws_of(record: Record) -> tuple[int, ...]:
    """What a call has drawn from each of its sources."""
    return record.shares[len(record.made.legs) :]
