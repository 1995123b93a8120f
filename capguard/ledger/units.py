"""What is counted, and in which parts: money and units of one's own in billionths, tokens and requests in ones."""

from __future__ import annotations

from decimal import Decimal

from capguard.ledger.money import NANO, in_units, parts_of

MONEY = ("usd", "billed")
"""`usd` is what the provider charges, `billed` what the customer pays."""

COUNTS = ("tokens", "input_tokens", "output_tokens", "requests")

BUILT_IN = (*MONEY, *COUNTS)


def scale(unit: str) -> int:
    """Parts in one `unit`: 1 for counts, 10^9 for money and for every unit that the policy defines."""
    return 1 if unit in COUNTS else NANO


def parse(unit: str, value: object, what: str = "amount") -> int:
    """`value` of `unit` in parts, rounded up. Raises ValueError for what is not a finite number of 0 or more."""
    return parts_of(value, scale(unit), what)


def shown(unit: str, parts: int) -> Decimal:
    """`parts` of `unit` as people read it: dollars, tokens, credits."""
    return in_units(parts, scale(unit))
