"""What one model would count for one call: its input bound or counted, its output as limited, learned or cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from capguard.arguments import Request
from capguard.habits import Habits
from capguard.ledger.caps import Amounts, Leg
from capguard.ledger.commands import Scale
from capguard.ledger.money import MAX_AMOUNT
from capguard.policy.document import Policy
from capguard.pricing.estimate import Estimate, Output, estimated
from capguard.pricing.price import Price
from capguard.pricing.tariff import Tariff
from capguard.pricing.usage import Usage
from capguard.tariffs import Tariffs

_NOT_FILLED = ("warn", "dry_run", "clamp")
"""Caps that an absurd output limit does not fill: those that only tell, and those that lower the limit itself."""


class Option(NamedTuple):
    """What one model of a route would count for one call, and how that was found."""

    tariff: Tariff
    rates: Mapping[str, Any]
    held: Amounts
    expected: Amounts
    how: str
    usage: Usage | None = None
    how_output: str = "given"

    def scale(self, choices: int) -> Scale | None:
        """How the amounts grow with the output limit, where an estimate says it."""
        if self.usage is None or not self.usage.output_tokens:
            return None
        without = replace(self.usage, output_tokens=0, reasoning_tokens=0, image_output_tokens=0)
        limit = self.usage.output_tokens // choices
        return Scale(limit, self.tariff.bound(without), self.tariff.per_output(choices, self.usage))

    def least(self, request: Request) -> Amounts:
        """What the call costs in any case: as its input is at least, with the output that is held."""
        assert self.usage is not None
        shortest = Usage(
            model=self.usage.model,
            input_tokens=request.prompt.least,
            output_tokens=self.usage.output_tokens,
            image_output_tokens=self.usage.image_output_tokens,
            service=self.usage.service,
        )
        return self.tariff.amounts(shortest)


class Options:
    """Sizes the calls of one policy. `habits`, which go on learning, say how long replies are."""

    def __init__(self, policy: Policy, tariffs: Tariffs, habits: Habits):
        self._defaults = policy.estimate
        self._share = policy.estimate.share.as_integer_ratio()
        self._tariffs = tariffs
        self._habits = habits

    def of(
        self,
        request: Request,
        model: str | None,
        tariff: Tariff,
        rates: Mapping[str, Any],
        legs: Sequence[Leg],
        *,
        bound: bool,
    ) -> Option:
        """A call to `model` on `legs`; with `bound`, at what it can cost at most, without counting its input."""
        known = request.known
        if known is None and tariff.price is None:
            tariff = self._tariffs.of_nameless(request.identity.plan)
            return self._estimated(request, "", tariff, tariff.to_dict(), legs, bound=bound)
        if known is None:
            return self._estimated(request, model or "", tariff, rates, legs, bound=bound)
        if isinstance(known, Usage):
            amounts: Amounts = tariff.amounts(known)
            return Option(tariff, rates, amounts, amounts, "usage")
        amounts = {**known, "requests": 1}
        if "usd" in known:
            amounts["billed"] = tariff.billed(known["usd"])
        return Option(tariff, rates, amounts, amounts, "given")

    def _estimated(
        self,
        request: Request,
        model: str,
        tariff: Tariff,
        rates: Mapping[str, Any],
        legs: Sequence[Leg],
        *,
        bound: bool,
    ) -> Option:
        """What a call is estimated at; an output limit beyond what is usual holds no more than a share of any cap."""
        assert tariff.price is not None
        output, usual = self._output(request, model, tariff.price)
        option = self._with_output(request, model, tariff, rates, output, bound=bound)
        if output.held <= usual:
            return option
        fitting = max(usual, self._fitting(option, request.choices, legs))
        if fitting >= output.held:
            return option
        cut = Output(fitting, min(output.expected, fitting), "share")
        return self._with_output(request, model, tariff, rates, cut, bound=bound)

    def _with_output(
        self, request: Request, model: str, tariff: Tariff, rates: Mapping[str, Any], output: Output, *, bound: bool
    ) -> Option:
        assert tariff.price is not None
        found: Estimate = estimated(
            tariff.price,
            self._tariffs.behind(model),
            request.prompt,
            output,
            n=request.n,
            service=request.service,
            bound=bound,
        )
        held = tariff.bound(found.held)
        same = found.expected == found.held and tariff.list_price is None
        expected = held if same else tariff.amounts(found.expected)
        return Option(tariff, rates, held, expected, found.how, found.held, found.how_output)

    def _output(self, request: Request, model: str, price: Price) -> tuple[Output, int]:
        """The output of one choice, and what is usual for such a call: as learned, else the policy's default."""
        habit = self._habits.of(request.identity.feature, model)
        usual = self._defaults.output if habit is None else habit.most
        limit = usual if request.output_limit is None else request.output_limit[1]
        most = price.max_output if price.max_output is not None else limit
        held, usual = min(limit, most), min(usual, most)
        expected = held if habit is None else min(held, habit.usual)
        if request.output_limit is not None:
            return Output(held, expected, "limit"), usual
        return Output(held, expected, "default" if habit is None else "history"), usual

    def _fitting(self, option: Option, choices: int, legs: Sequence[Leg]) -> int:
        """The longest output that holds no more than the policy's share of any cap that limits or steers."""
        parts, whole = self._share
        filled = [leg for leg in legs if option.held.get(leg.unit, 0) * whole > leg.limit * parts]
        scale = option.scale(choices) if filled else None
        if scale is None:
            return MAX_AMOUNT
        fitting = [
            (leg.limit * parts // whole - scale.base[leg.unit]) * 1000 // rate
            for leg in filled
            if leg.action not in _NOT_FILLED and (rate := scale.rates.get(leg.unit))
        ]
        return max(0, min(fitting, default=MAX_AMOUNT))
