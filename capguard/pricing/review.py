"""What is not believed of a new price list until somebody says that it is meant.

Calibrated on two LiteLLM lists a year apart: of 1,418 values 140 had changed, 117 of them by at most twice, 12 by 2 to
10 times, 3 by more, 7 to less than a tenth, and one to zero.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from capguard.pricing.book import PriceBook

MOST_CHANGE = 4
"""A rate that became more than so many times dearer, or cheaper, is doubted."""

DEAREST = 600 * 10**6
"""Pico-dollars per token, 600 dollars per million: no model was ever listed above."""

MOST_LOST = 10
"""A list that lost one model in so many is doubted as a whole."""

_RATES = {"input": 2, "output": 3, "cache_read": 4, "cache_write": 5}
_CACHE = ("cache_read", "cache_write")


class Doubt(NamedTuple):
    """One price that is not believed; what was listed before stays in force. Rates are pico-dollars per token."""

    model: str
    what: str
    rate: str
    before: int | None
    after: int

    def __str__(self) -> str:
        before = "nothing" if self.before is None else _shown(self.before)
        return f"{self.model}: {self.rate} {self.what}, from {before} to {_shown(self.after)} USD per million tokens"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, in dollars per million tokens."""
        before = None if self.before is None else _shown(self.before)
        return {**self._asdict(), "before": before, "after": _shown(self.after)}


def reviewed(
    rows: Mapping[str, Sequence[Any]],
    later: Mapping[str, Mapping[str, Sequence[Any]]],
    before: PriceBook,
    meant: Collection[str] = (),
) -> tuple[dict[str, Sequence[Any]], tuple[Doubt, ...]]:
    """The rows that are believed, and the doubts about the others, or about what holds `later`.

    What is `meant` is believed.
    """
    believed: dict[str, Sequence[Any]] = {}
    doubts: list[Doubt] = []
    for name, row in rows.items():
        was = before.row(name) if name in before.names else None
        steps = [(row, was), *((dated, row) for dated in later.get(name, {}).values())]
        found = [] if name in meant else [doubt for step in steps for doubt in doubts_about(name, *step)]
        doubts += found
        if not found:
            believed[name] = row
    return believed, tuple(doubts)


def doubts_about(name: str, row: Sequence[Any], before: Sequence[Any] | None) -> list[Doubt]:
    """Why one row is not believed. A cache rate that is the input's is doubted with it, once."""
    found = []
    given = row[_RATES["input"]]
    for rate, place in _RATES.items():
        was, now = (None if before is None else before[place]), row[place]
        if what := None if rate in _CACHE and now == given else _doubt(was, now):
            found.append(Doubt(name, what, rate, was, now))
    read = row[_RATES["cache_read"]]
    if read > given:
        found.append(Doubt(name, "is above the input", "cache_read", None if before is None else before[4], read))
    return found


def _doubt(was: int | None, now: int) -> str | None:
    if now > DEAREST:
        return "beyond belief"
    if not was:
        return None
    if not now:
        return "became free"
    return "changed much" if now > MOST_CHANGE * was or now * MOST_CHANGE < was else None


def shrank(models: int, before: int) -> bool:
    """Whether a list lost so many models that it cannot be whole."""
    return models * MOST_LOST < before * (MOST_LOST - 1)


def _shown(pico: int) -> str:
    return f"{Decimal(pico) / 10**6:f}"
