"""What a call is booked at: by a response, a usage, a cost, a stream that was seen, or else as it was expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from capguard.errors import UnknownModel
from capguard.ledger import units
from capguard.ledger.caps import Amounts
from capguard.ledger.commands import Settle
from capguard.ledger.outcomes import Record
from capguard.pricing.prompt import Prompt
from capguard.pricing.responses import read_usage
from capguard.pricing.stream import StreamReader
from capguard.pricing.tariff import Tariff
from capguard.pricing.tokens import count_text
from capguard.pricing.usage import Usage

TariffOf = Callable[[str, str | None], Tariff]
"""The tariff of a model on a plan; raises UnknownModel where the policy denies models without a price."""


class Booking(NamedTuple):
    """What a settle has to know of its reservation: the rates it was made at, and what it was expected to cost.

    `prompt` is there where the call was held by a bound: its input is counted if nobody reports it.
    """

    id: str
    model: str | None
    plan: str | None
    tariff: Tariff
    expected: Amounts
    prompt: Prompt | None = None

    @classmethod
    def of(cls, record: Record) -> Booking:
        """From the ledger's record: for a settle in another process than the reserve."""
        made = record.made
        return cls(record.id, made.model, made.identity.get("plan"), Tariff.from_dict(made.rates), made.expected)

    @classmethod
    def unknown(cls, id: str) -> Booking:
        """For an id of which nothing is remembered: what is said of it is priced by what the reply names."""
        return cls(id, None, None, Tariff(None), {})

    def at_usage(self, usage: Usage, *flags: str) -> Settle:
        """What was used, at the reservation's rates. What they do not tell is booked as expected, and flagged."""
        counted = self.tariff.amounts(usage)
        if self.tariff.price is None:
            flags = (*flags, "uncertain" if "usd" in self.expected else "unpriced")
            counted |= {unit: parts for unit, parts in self.expected.items() if unit in units.MONEY}
        return self._settle({**self.expected, **counted}, (*self.tariff.flags_of(usage), *flags), usage)

    def at_cost(self, cost: object) -> Settle:
        """A cost in dollars that the caller knows; other units, and `billed` by a list, as they were expected."""
        usd = units.parse("usd", cost, "cost")
        amounts = {**self.expected, "usd": usd}
        by_list = self.tariff.list_price is not None and "tokens" in self.expected  # a list prices tokens
        if not by_list:
            amounts["billed"] = self.tariff.billed(usd)
        return self._settle(amounts, ("given",), None)

    def at_expected(self, *flags: str) -> Settle:
        """What was expected: nobody said what it really cost."""
        return self._settle(self.expected, (*self.tariff.flags, "uncertain", *flags), None)

    def at_nothing(self, *flags: str) -> Settle:
        """Nothing: no provider was asked."""
        return self._settle(dict.fromkeys(self.expected, 0), flags, None)

    def at_seen(self, reader: StreamReader, price: TariffOf, *flags: str) -> Settle:
        """What a stream reported; where it did not, its input and the output text that passed, counted."""
        usage, named = reader.usage, self.named(reader.model, price)
        if usage is not None and not reader.partial:
            return named.at_usage(usage, *flags)
        given = reader.reported_input
        counted = count_text(reader.text, reader.model or self.model).tokens
        seen = Usage(
            model=reader.model,
            input_tokens=self._expected_input() if given is None else given,
            output_tokens=max(counted, 0 if usage is None else usage.output_tokens),
            cache_read_tokens=0 if usage is None else usage.cache_read_tokens,
            cache_write_tokens=0 if usage is None else usage.cache_write_tokens,
        )
        return named.at_usage(seen, "counted", *flags)

    def _expected_input(self) -> int:
        return self.expected.get("input_tokens", 0) if self.prompt is None else self.prompt.count(self.model).tokens

    def at(self, response: Any, usage: Usage | None, cost: object, price: TariffOf) -> Settle:
        """What the caller of `settle` says, in whichever form. Raises ValueError where it says it twice or wrongly."""
        if sum(each is not None for each in (response, usage, cost)) > 1:
            raise ValueError("response, usage and cost say the same thing: give one of them")
        if cost is not None:
            return self.at_cost(cost)
        if usage is not None and not isinstance(usage, Usage):
            raise ValueError(f"usage: {type(usage).__name__} is not a capguard.Usage")
        found = usage if usage is not None else read_usage(response)
        if found is None:
            return self.at_expected() if response is None else self.at_expected("no_usage")
        named = self.named(found.model, price)
        return named.at_usage(found) if named.tariff.prices(found) else self.at_expected("no_usage")

    def named(self, model: str | None, price: TariffOf) -> Booking:
        """The same reservation at the rates of `model`, where it was made without a price and the reply names one."""
        if self.tariff.price is not None or model is None:
            return self
        try:
            return self._replace(tariff=price(model, self.plan))
        except UnknownModel:  # the policy denies such calls, but this reply is there already
            return self

    def _settle(self, amounts: Amounts, flags: tuple[str, ...], usage: Usage | None) -> Settle:
        facts: dict[str, Any] = {"flags": list(flags)} if flags else {}
        if usage is not None:
            facts["usage"] = usage_facts(usage)
        return Settle(self.id, amounts, facts)


def usage_facts(usage: Usage) -> Mapping[str, Any]:
    """The counts of a usage that are not zero, as the journal keeps them."""
    facts = {name: value for name in _FACTS if (value := getattr(usage, name))}
    if usage.quantities:
        facts["quantities"] = {name: str(quantity) for name, quantity in usage.quantities.items()}
    return facts


_FACTS = (
    *("model", "service", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("cache_write_1h_tokens", "reasoning_tokens", "audio_input_tokens", "audio_output_tokens"),
    *("image_input_tokens", "image_output_tokens"),
)
