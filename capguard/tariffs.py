"""By what a call is counted: the policy's own prices over the bundled book, and what it says of unknown models."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from capguard.errors import UnknownModel
from capguard.ledger.money import NANO, parts_of, pico_per_unit
from capguard.policy.document import Policy, PriceRates, UnitRates
from capguard.policy.globs import best_match
from capguard.pricing.book import PriceBook, bundled
from capguard.pricing.price import Origin, Price
from capguard.pricing.tariff import Tariff, UnitRate, markup_of

MILLION = 1_000_000


class Tariffs:
    """The tariffs of one policy over one price book. Immutable, shared by all threads; look-ups are remembered."""

    def __init__(self, policy: Policy, book: PriceBook | None = None):
        self._policy = policy
        self.book = bundled() if book is None else book
        self._markups = {name: markup_of(plan.markup) for name, plan in policy.plans.items()}
        self.price = lru_cache(1024)(self._find_price)
        self._listed = lru_cache(1024)(self._find_listed)
        self._unit_rates = lru_cache(1024)(self._find_unit_rates)

    def of(self, model: str | None, plan: str | None) -> Tariff:
        """The tariff of `model` on `plan`. Without a model there is no price, only the plan's markup.

        Raises UnknownModel where the model has no price and the policy denies such models.
        """
        price = None if model is None else self.price(model)
        units = {} if model is None else self._unit_rates(model)
        listed = None if model is None or plan is None else self._listed(model, plan)
        return Tariff(price, units, self._markups.get(plan or "", markup_of(None)), listed)

    def of_nameless(self, plan: str | None) -> Tariff:
        """The tariff of a call that has a prompt and names no model."""
        return self.of(None, plan).at(self._unknown("", "the call names no model"))

    def _find_price(self, model: str) -> Price:
        return self.known(model) or self._unknown(model, f"model {model!r} has no known price")

    def known(self, model: str) -> Price | None:
        """The user's exact name, the user's pattern, the book; None for a model without a price.

        A deployment that has no price of its own is looked up as the model behind it.
        """
        behind = self.behind(model)
        return _own(self._policy.prices, model) or _own(self._policy.prices, behind) or self.book.find(behind)

    def _find_listed(self, model: str, plan: str) -> Price | None:
        """What the customers of `plan` pay for `model`, where the plan has a price of its own for it."""
        if plan not in self._policy.plans:
            return None
        listed = self._policy.plans[plan].prices
        return _own(listed, model) or _own(listed, self.behind(model))

    def behind(self, model: str) -> str:
        """The model behind a deployment's name, with its host's prefix or without; any other name as it is."""
        deployments = self._policy.deployments
        return deployments.get(model) or deployments.get(model.rpartition("/")[2]) or model

    def lacks(self, model: str, needs: frozenset[str]) -> bool:
        """Whether `model` is known to be without one of the features `needs`."""
        listed = self.book.find(self.behind(model)) if needs else None
        return listed is not None and not needs <= listed.features

    def _unknown(self, model: str, why: str) -> Price:
        failure = self._policy.failure
        if failure.unknown_model == "deny":
            close = ", ".join(self.book.closest(model)) if model else ""
            hint = f"; did you mean {close}?" if close else ""
            remedy = f'give it one under [prices."{model or "name"}"], or set unknown_model to ceiling'
            raise UnknownModel(f"{why}{hint} {remedy}")
        if failure.unknown_model == "allow":
            return Price.of(model, input=0, output=0, origin="unpriced")
        return price_of(model, failure.ceiling, "ceiling", failure.ceiling.max_output)

    def _find_unit_rates(self, model: str) -> Mapping[str, UnitRate]:
        best = {unit: best_match(models, model) for unit, models in self._policy.units.items()}
        found = {unit: self._policy.units[unit][pattern] for unit, pattern in best.items() if pattern is not None}
        return {unit: _unit_rate(unit, rates) for unit, rates in found.items()}


def _own(prices: Mapping[str, PriceRates], model: str) -> Price | None:
    """The price of `model` in a list of the policy: the exact name, else the longest pattern; None without either."""
    own = best_match(prices, model)
    if own is None:
        return None
    rates = prices[own]
    return price_of(model, rates, "free" if rates.free else "policy", rates.max_output)


def price_of(model: str, rates: PriceRates | UnitRates, origin: Origin, max_output: int | None = None) -> Price:
    """Rates of the policy, per million tokens and per request, as integers per token and request."""
    read, write = rates.cache_read, rates.cache_write
    return Price.of(
        model,
        input=pico_per_unit(rates.input, MILLION),
        output=pico_per_unit(rates.output, MILLION),
        cache_read=None if read is None else pico_per_unit(read, MILLION),
        cache_write=None if write is None else pico_per_unit(write, MILLION),
        request=pico_per_unit(rates.request),
        max_output=max_output,
        origin=origin,
    )


def _unit_rate(unit: str, rates: UnitRates) -> UnitRate:
    pieces = {name: parts_of(rate, NANO, f"units.{unit}.quantities.{name}") for name, rate in rates.quantities.items()}
    return UnitRate(price_of(unit, rates, "policy"), pieces)
