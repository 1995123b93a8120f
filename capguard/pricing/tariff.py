"""What one call counts, in every unit: dollars by the price, tokens as they are, own units by their rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from capguard.ledger.money import MAX_AMOUNT, decimal_of
from capguard.ledger.units import scale
from capguard.pricing.price import Price
from capguard.pricing.usage import Usage

MARKUP_SCALE = 10**9
_BUILT_IN = 6


@dataclass(frozen=True, slots=True)
class UnitRate:
    """The rates of a unit of one's own: billionths of a thousandth per token and request, billionths per piece."""

    rates: Price
    pieces: Mapping[str, int] = field(default_factory=dict)

    def amount(self, usage: Usage) -> int:
        """How much of the unit `usage` counts, in billionths, rounded up once."""
        pieces = sum(
            rate * decimal_of(usage.quantities[name]) for name, rate in self.pieces.items() if name in usage.quantities
        )
        return self.rates.cost(usage) + int(-(-pieces // 1))

    def to_dict(self) -> dict[str, Any]:
        return {**self.rates.to_dict(), "pieces": dict(self.pieces)}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> UnitRate:
        return cls(Price.from_dict(entry), dict(entry["pieces"]))


@dataclass(frozen=True, slots=True)
class Tariff:
    """By what one call is counted. `price` is None where the caller says the cost.

    `billed` is by the plan's own price of the model, `list_price`; without one, dollars times `markup`, in billionths.
    """

    price: Price | None
    units: Mapping[str, UnitRate] = field(default_factory=dict)
    markup: int = MARKUP_SCALE
    list_price: Price | None = None

    def amounts(self, usage: Usage) -> dict[str, int]:
        """`usage` in every unit, at most 2^53-1 parts each. A free model costs no money; its tokens still count."""
        usd = self.price.cost(usage) if self.price is not None else 0
        counted = {
            "usd": usd,
            "billed": self.billed(usd) if self.list_price is None else self.list_price.cost(usage),
            "tokens": usage.input_tokens + usage.output_tokens,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "requests": usage.requests,
        }
        for unit, rate in self.units.items():
            counted[unit] = rate.amount(usage)
        for name, quantity in usage.quantities.items():
            if name not in counted:
                counted[name] = int(-(-decimal_of(quantity) * scale(name) // 1))
        if max(usd, counted["billed"], counted["tokens"]) > MAX_AMOUNT or len(counted) > _BUILT_IN:
            return {unit: min(amount, MAX_AMOUNT) for unit, amount in counted.items()}
        return counted

    def bound(self, usage: Usage) -> dict[str, int]:
        """As `amounts`, for a hold: whatever the provider's caches make of the input, no more is billed by the list."""
        listed = self.list_price
        if listed is None:
            return self.amounts(usage)
        rate = listed.dearest_input
        dearest = replace(listed, input=rate, cache_read=rate, cache_write=rate)
        return replace(self, list_price=dearest).amounts(usage)

    def at(self, price: Price) -> Tariff:
        """The same at another price."""
        return replace(self, price=price)

    def billed(self, usd: int) -> int:
        """What the customer pays for `usd` nano-dollars of which no usage is known, in nano-dollars, rounded up."""
        return usd if self.markup == MARKUP_SCALE else -(-usd * self.markup // MARKUP_SCALE)

    def per_output(self, choices: int, usage: Usage) -> dict[str, int]:
        """What one more output token in each of `choices` adds in every unit, in thousandths of a part, rounded up."""
        usd = 0
        if self.price is not None:
            price = self.price.applicable(usage.input_tokens, usage.service)
            usd = (price.rate("image_output") if usage.image_output_tokens else price.dearest_output) * choices
        listed = self.list_price
        counted = {
            "usd": usd,
            "billed": -(-usd * self.markup // MARKUP_SCALE) if listed is None else listed.output * choices,
            "tokens": 1000 * choices,
            "input_tokens": 0,
            "output_tokens": 1000 * choices,
            "requests": 0,
        }
        return counted | {unit: rate.rates.output * choices for unit, rate in self.units.items()}

    @property
    def flags(self) -> tuple[str, ...]:
        """How sure the price is: nothing to say, or `ceiling`, `unpriced`."""
        origin = self.price.origin if self.price is not None else ""
        return (origin,) if origin in ("ceiling", "unpriced") else ()

    def flags_of(self, usage: Usage) -> tuple[str, ...]:
        """As `flags`, and `partly_priced` where some of `usage` has no listed price."""
        partial = self.price is not None and self.price.is_partial(usage)
        return (*self.flags, "partly_priced") if partial else self.flags

    def prices(self, usage: Usage) -> bool:
        """Whether anything of `usage` can be charged: pieces without a fee, and no token, say nothing of a cost."""
        if self.price is None or self.price.origin in ("free", "unpriced") or usage.tokens:
            return True
        return not self.price.is_partial(usage) or self.price.cost(usage) > 0

    def to_dict(self) -> dict[str, Any]:
        """The rates as the journal keeps them."""
        rates: dict[str, Any] = {} if self.price is None else {"price": self.price.to_dict()}
        if self.units:
            rates["units"] = {unit: rate.to_dict() for unit, rate in self.units.items()}
        if self.markup != MARKUP_SCALE:
            rates["markup"] = self.markup
        if self.list_price is not None:
            rates["list_price"] = self.list_price.to_dict()
        return rates

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Tariff:
        price = Price.from_dict(entry["price"]) if "price" in entry else None
        units = {unit: UnitRate.from_dict(rate) for unit, rate in entry.get("units", {}).items()}
        listed = Price.from_dict(entry["list_price"]) if "list_price" in entry else None
        return cls(price, units, entry.get("markup", MARKUP_SCALE), listed)


def markup_of(factor: Decimal | None) -> int:
    """A plan's markup as billionths; None is 1."""
    return MARKUP_SCALE if factor is None else int(factor * MARKUP_SCALE)
