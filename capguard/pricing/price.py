"""What one model costs: rates as integers, and the variants of them that hold in long contexts and other tiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

from capguard.ledger.money import MAX_AMOUNT, ceil_nano, decimal_of
from capguard.pricing.usage import Usage

Origin = Literal["snapshot", "policy", "ceiling", "unpriced", "free"]
RATES = ("input", "output", "cache_read", "cache_write", "request")

RARE = ("cache_write_1h", "reasoning", "audio_input", "audio_output", "image_input", "image_output")
"""Tokens that few models charge apart. Where no rate is listed, the rate of what they are a part of holds."""

FEES = ("searches", "images", "seconds", "characters", "pages", "queries", "pixels")
"""Pieces that are charged one by one, by the names that `Usage.quantities` has for them."""

SERVICES = ("batch", "flex", "priority")
"""Tiers of service with prices of their own."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Other rates of the same model: for `service` (None: the standard one), above so many input tokens.

    `rates` holds everything that differs from the base.
    """

    service: str | None
    above: int
    rates: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The rates of one model, in pico-dollars per token, request and piece.

    `model` is the name under which it was found, `version` that of the book. Limits are in tokens, None if unknown.
    `rare` has rates for tokens of `RARE`, `fees` for pieces of `FEES`. A call is charged at the variant of the service
    that served it with the highest size below its input: the whole call, as providers bill.
    """

    model: str
    input: int
    output: int
    cache_read: int
    cache_write: int
    request: int = 0
    rare: Mapping[str, int] = field(default_factory=dict)
    fees: Mapping[str, int] = field(default_factory=dict)
    variants: tuple[Variant, ...] = ()
    max_input: int | None = None
    max_output: int | None = None
    origin: Origin = "snapshot"
    version: str = ""
    provider: str | None = None
    mode: str | None = None
    features: frozenset[str] = frozenset()
    retires: str | None = None
    _smallest: int = field(default=0, init=False, repr=False, compare=False)
    _resolved: dict[int, Price] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sizes = [variant.above for variant in self.variants if variant.service is None]
        object.__setattr__(self, "_smallest", min(sizes, default=MAX_AMOUNT))

    @classmethod
    def of(
        cls,
        model: str,
        *,
        input: int,
        output: int,
        cache_read: int | None = None,
        cache_write: int | None = None,
        **rest: Any,
    ) -> Price:
        """A price whose cache rates, where none are given, are the input rate: that is how providers bill then."""
        read = input if cache_read is None else cache_read
        write = input if cache_write is None else cache_write
        return cls(model=model, input=input, output=output, cache_read=read, cache_write=write, **rest)

    def cost(self, usage: Usage) -> int:
        """What `usage` costs, in nano-dollars, rounded up once."""
        if self.variants and (usage.service is not None or usage.input_tokens > self._smallest):
            return self.applicable(usage.input_tokens, usage.service).cost(usage)
        read, write = usage.cache_read_tokens, usage.cache_write_tokens
        pico = (
            (usage.input_tokens - read - write) * self.input
            + read * self.cache_read
            + write * self.cache_write
            + usage.output_tokens * self.output
            + self._of_requests(usage)
        )
        if self.rare and not (usage.is_plain and not usage.reasoning_tokens):
            pico += sum(tokens * (self.rate(name) - instead) for name, tokens, instead in self._rare_parts(usage))
        if self.fees and usage.quantities:
            pico += self._fees(usage.quantities)
        return ceil_nano(pico)

    @property
    def sells_images(self) -> bool:
        """Whether an image has a price: a fee, or a price per request where no token of the output has one."""
        return "images" in self.fees or bool(self.request and not self.output)

    def _of_requests(self, usage: Usage) -> int:
        """The price of a request for each of them, and for each image where nothing else pays for those."""
        if "images" not in usage.quantities or "images" in self.fees or not self.sells_images:
            return usage.requests * self.request
        return int(-(-max(decimal_of(usage.quantities["images"]), Decimal(usage.requests)) * self.request // 1))

    def applicable(self, input_tokens: int, service: str | None = None) -> Price:
        """The same price without variants, as it holds for so many input tokens and a tier of service.

        A tier that the model has no prices for is charged as the standard one, as `is_partial` says.
        """
        found, served = -1, service if self.serves(service) else None
        for place, variant in enumerate(self.variants):  # smaller sizes stand before larger ones
            if variant.service == served and (input_tokens > variant.above or not variant.above):
                found = place
        if found not in self._resolved:
            self._resolved[found] = self._with(self.variants[found].rates if found >= 0 else {})
        return self._resolved[found]

    def _with(self, rates: Mapping[str, int]) -> Price:
        base: dict[str, Any] = {name: rates[name] for name in RATES if name in rates}
        rare = {**self.rare, **{name: rate for name, rate in rates.items() if name in RARE}}
        return replace(self, **base, rare=rare, variants=())

    def rate(self, name: str) -> int:
        """The rate for tokens of `RARE`: the listed one, else that of the whole which they are a part of."""
        instead: int = getattr(self, _WHOLE[name])
        return self.rare.get(name, instead)

    def is_partial(self, usage: Usage) -> bool:
        """Whether some of `usage` has no listed price: audio and drawn images where only text has one, a piece without
        its fee, a tier of service without its rates. Such tokens are charged as text, such pieces at nothing.
        """
        if self.origin == "free":
            return False
        unlisted = (usage.audio_input_tokens and "audio_input" not in self.rare) or (
            usage.audio_output_tokens and "audio_output" not in self.rare
        )
        tier = usage.service in SERVICES and not self.serves(usage.service)
        return bool(unlisted or self._draws_unpriced(usage) or self._lacks_fee(usage.quantities) or tier)

    def _draws_unpriced(self, usage: Usage) -> bool:
        """Images as tokens of a model that also writes, or as pieces that neither a fee nor tokens pay for."""
        if "images" in usage.quantities:
            return not (self.sells_images or usage.output_tokens)
        return bool(usage.image_output_tokens) and "image_output" not in self.rare and self.mode != "image_generation"

    def _lacks_fee(self, quantities: Mapping[str, Any]) -> bool:
        return any(name in FEES and name not in self.fees and name != "images" for name in quantities)

    def serves(self, service: str | None) -> bool:
        """Whether there are rates for this tier of service."""
        return service is None or any(variant.service == service for variant in self.variants)

    @property
    def dearest_input(self) -> int:
        """The highest rate that an input token can be billed at, in pico-dollars: what a hold has to assume."""
        return max(self.input, self.cache_read, self.cache_write)

    @property
    def dearest_output(self) -> int:
        """The highest rate that an output token of a text can be billed at, in pico-dollars."""
        return max(self.output, self.rare.get("reasoning", 0))

    def to_dict(self) -> dict[str, Any]:
        """The rates and where they came from, as the journal keeps them."""
        rates: dict[str, Any] = {name: getattr(self, name) for name in RATES}
        if self.rare:
            rates["rare"] = dict(self.rare)
        if self.fees:
            rates["fees"] = dict(self.fees)
        if self.variants:
            rates["variants"] = [[each.service, each.above, dict(each.rates)] for each in self.variants]
        return {"model": self.model, "origin": self.origin, "version": self.version, **rates}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Price:
        """The price of a journal's entry. Raises KeyError for an entry without model or rates."""
        rates: dict[str, Any] = {name: int(entry[name]) for name in RATES}
        return cls(
            model=entry["model"],
            origin=entry["origin"],
            version=entry["version"],
            rare=entry.get("rare", {}),
            fees=entry.get("fees", {}),
            variants=tuple(Variant(*each) for each in entry.get("variants", ())),
            **rates,
        )

    def _rare_parts(self, usage: Usage) -> tuple[tuple[str, int, int], ...]:
        """Name, tokens, and the rate at which the sum has charged them already."""
        return (
            ("cache_write_1h", usage.cache_write_1h_tokens, self.cache_write),
            ("audio_input", usage.audio_input_tokens, self.input),
            ("image_input", usage.image_input_tokens, self.input),
            ("reasoning", usage.reasoning_tokens, self.output),
            ("audio_output", usage.audio_output_tokens, self.output),
            ("image_output", usage.image_output_tokens, self.output),
        )

    def _fees(self, quantities: Mapping[str, Any]) -> int:
        pico = sum(self.fees[name] * decimal_of(pieces) for name, pieces in quantities.items() if name in self.fees)
        return int(-(-pico // 1))


_WHOLE = {
    "cache_write_1h": "cache_write",
    "reasoning": "output",
    "audio_input": "input",
    "audio_output": "output",
    "image_input": "input",
    "image_output": "output",
}
