"""Money is an integer: balances in nano-dollars, rates in pico-dollars per unit, one ceiling per call.

Nano-dollars stay exact in a double up to 2^53, 9,007,199 dollars, which is what Redis' Lua can compare. Rates need
three more digits: of 15,937 published prices 690 are finer than a nano-dollar per token, none loses more than 0.1% in
pico-dollars.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation

NANO = 10**9
"""Parts in which money and units of one's own are counted."""

PICO_PER_NANO = 1000
"""Rates are finer than balances by this factor."""

MAX_AMOUNT = 2**53 - 1
"""The largest amount, limit or balance, in parts: exact in a double."""

_PLAIN_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?|\.[0-9]+([eE][+-]?[0-9]{1,3})?", re.ASCII)
_MAX_DIGITS = 40
_WIDE = Context(prec=400, traps=[InvalidOperation])


def decimal_of(value: object, what: str = "amount") -> Decimal:
    """`value` as a finite, non-negative Decimal; a float through its shortest decimal text.

    Raises ValueError for NaN, infinities, negatives, booleans, blanks, underscores, non-ASCII digits, numbers of more
    than 40 characters and everything that is not a number.
    """
    if isinstance(value, bool) or not isinstance(value, (Decimal, str, int, float)):
        raise ValueError(f"{what}: {_shown(value)} is not a number; allowed: Decimal, str, int or float, 0 or more")
    if isinstance(value, int) and not -(10**_MAX_DIGITS) < value < 10**_MAX_DIGITS:
        raise ValueError(f"{what}: an integer of more than {_MAX_DIGITS} digits")
    text = repr(value) if isinstance(value, float) else str(value)
    if len(text) > _MAX_DIGITS or not _PLAIN_NUMBER.fullmatch(text):
        raise ValueError(f"{what}: {_shown(value)} is refused; allowed: a finite decimal number, 0 or more")
    return Decimal(text)


def parts_of(value: object, scale: int, what: str = "amount") -> int:
    """`value` in integer parts of `1/scale`, rounded up. Raises ValueError as `decimal_of`, and beyond 2^53-1 parts."""
    number = decimal_of(value, what)
    if number and number.adjusted() > 20:
        raise ValueError(f"{what}: {_shown(value)} is larger than this ledger counts")
    parts = int(_WIDE.multiply(number, Decimal(scale)).to_integral_value(rounding=ROUND_CEILING))
    if parts > MAX_AMOUNT:
        raise ValueError(f"{what}: {_shown(value)} is larger than this ledger counts ({Decimal(MAX_AMOUNT) / scale})")
    return parts


def nano(value: object, what: str = "amount") -> int:
    """Dollars as nano-dollars, rounded up."""
    return parts_of(value, NANO, what)


def dollars(amount: int) -> Decimal:
    """Nano-dollars as dollars, exactly, in the shortest form."""
    return in_units(amount, NANO)


def in_units(parts: int, scale: int) -> Decimal:
    """Integer parts of `1/scale` as a number in its shortest plain form: 5, not 5.000000000 and not 5E+1."""
    whole, rest = divmod(parts, scale)
    return Decimal(whole) if not rest else (Decimal(parts) / scale).normalize()


def pico_per_unit(value: object, per: int = 1, what: str = "rate") -> int:
    """A published price, dollars per `per` units, as pico-dollars per unit, rounded up."""
    return int((decimal_of(value, what) * 10**12 / per).to_integral_value(rounding=ROUND_CEILING))


def ceil_nano(pico: int) -> int:
    """Pico-dollars as nano-dollars: the one rounding of a call, upward."""
    return -(-pico // PICO_PER_NANO)


def _shown(value: object) -> str:
    text = f"{type(value).__name__} of {value.bit_length()} bits" if isinstance(value, int) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
