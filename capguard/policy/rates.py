"""Prices of models and rates of own units, as they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import Field, SerializationInfo, SerializerFunctionWrapHandler, model_serializer

from capguard.errors import Finding
from capguard.policy.base import PolicyObject
from capguard.policy.fields import Flag, Number, OutputLimit, Text, readable
from capguard.policy.findings import place_of, shown

DEAREST = 600
"""USD per million tokens above which a price is a mistake; the dearest published ones stand at 600."""

CHEAPEST = Decimal("0.001")
"""USD per million tokens below which a price was meant per token: the cheapest published ones stand at 0.001, and the
dearest, per token, at 0.0006."""

_PER_MILLION = ("input", "output", "cache_read", "cache_write")


class PriceRates(PolicyObject):
    """What a model costs: USD per million tokens, `request` in USD per request.

    `input` and `output` are needed unless the model is `free` or has a price per `request`. The cache rates default to
    `input`. `max_output` is the most output tokens that the model gives.
    """

    input: Number = Decimal(0)
    output: Number = Decimal(0)
    cache_read: Number | None = None
    cache_write: Number | None = None
    request: Number = Decimal(0)
    max_output: OutputLimit | None = None
    free: Flag = False

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...

    @model_serializer(mode="wrap")
    def _dumped(self, dump: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """Without its defaults too, a price says that input or output costs nothing: it must, to be loaded again."""
        needed = {} if self.free or self.request else {"input": self.input, "output": self.output}
        return _with_zeros(dump(self), needed, info)

    @classmethod
    def rules(cls, data: Mapping[str, Any]) -> Iterator[Finding]:
        rates = {name: readable(data.get(name)) for name in (*_PER_MILLION, "request")}
        yield from (_odd(name, rate) for name, rate in rates.items() if rate and name != "request" and _is_odd(rate))
        if data.get("free") is True:
            yield from (Finding(name, "a price on a free model", "0") for name, rate in rates.items() if rate)
        elif not any(data.get(name) is not None for name in rates):
            yield Finding("", "no price", "input and output, or request, or free = true")
        elif all(rate == 0 for name, rate in rates.items() if data.get(name) is not None):
            yield Finding("", "a price of zero", "free = true for a model that costs nothing")
        elif data.get("request") is None:
            yield from (_missing(name) for name in ("input", "output") if data.get(name) is None)


def list_rules(prices: object) -> Iterator[Finding]:
    """A plan's list says what its customers pay, and nothing of the models themselves."""
    for model, rates in prices.items() if isinstance(prices, Mapping) else ():
        given = rates.get("max_output") if isinstance(rates, Mapping) else getattr(rates, "max_output", None)
        if given is not None:
            found = "max_output in the price list of a plan"
            yield Finding(place_of(["prices", str(model), "max_output"]), found, "max_output under [prices]")


class UnitRates(PolicyObject):
    """What a model counts in a unit of one's own: per million tokens, per request, and per piece of `quantities`."""

    input: Number = Decimal(0)
    output: Number = Decimal(0)
    cache_read: Number | None = None
    cache_write: Number | None = None
    request: Number = Decimal(0)
    quantities: dict[Text, Number] = Field(default_factory=dict)

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...

    @model_serializer(mode="wrap")
    def _dumped(self, dump: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """Without its defaults too, there is one rate."""
        dumped: dict[str, Any] = dump(self)
        return dumped or _with_zeros(dumped, {"input": self.input}, info)

    @classmethod
    def rules(cls, data: Mapping[str, Any]) -> Iterator[Finding]:
        if not data:
            yield Finding("", "no rate", f"at least one of {', '.join(cls.model_fields)}")


def _with_zeros(dumped: dict[str, Any], needed: Mapping[str, Decimal], info: SerializationInfo) -> dict[str, Any]:
    """`dumped` with those of `needed` that it left out, because they stand at their default of zero."""
    return dumped | {name: "0" if info.mode_is_json() else rate for name, rate in needed.items() if name not in dumped}


def _is_odd(rate: Decimal) -> bool:
    return rate > DEAREST or 0 < rate < CHEAPEST


def _odd(name: str, rate: Decimal) -> Finding:
    hint, remedy = ("is that for more than a million?", "")
    if rate < CHEAPEST:
        hint, remedy = "is that per token?", f"; per token it is {(rate * 1_000_000).normalize():f} per million"
    return Finding(
        name,
        f"{shown(rate)} USD per million tokens, {hint}",
        f"{CHEAPEST:f} to {DEAREST} USD per million tokens{remedy}",
    )


def _missing(name: str) -> Finding:
    return Finding(name, "missing", f"a price; {name} = 0 says that it costs nothing")
