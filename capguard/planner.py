"""From a call's arguments to the command that reserves it: which models may serve, at what cost, under which caps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from capguard.arguments import Request
from capguard.booking import Booking
from capguard.errors import UnknownModel
from capguard.identity import Identity, context
from capguard.ledger.caps import Amounts, Leg
from capguard.ledger.commands import Candidate, OnExpiry, Reserve
from capguard.ledger.money import NANO, parts_of, pico_per_unit
from capguard.policy.document import Policy, PriceRates, UnitRates
from capguard.policy.downgrade import MAX_CANDIDATES, cheaper
from capguard.policy.globs import best_match
from capguard.policy.resolve import Rulebook, Scoped, Standing, apply
from capguard.pricing.book import Price, bundled
from capguard.pricing.estimate import estimate
from capguard.pricing.tariff import Tariff, UnitRate, markup_of
from capguard.pricing.usage import Usage
from capguard.results import Reservation

MILLION = 1_000_000

TTL_MS = 120_000
"""How long a call is held when it does not say: the time-out of a provider call, and a margin."""

GRACE_MS = 30_000
"""How long a hold still counts after its time to live, for a settle that is on its way."""

RETENTION_MS = 24 * 3600 * 1000
"""How long an id is remembered after its call has ended."""


@dataclass(frozen=True, slots=True)
class Option:
    """One model that may serve the call, and what it counts."""

    model: str | None
    tariff: Tariff
    held: Amounts
    expected: Amounts
    how: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A call with everything that does not depend on the time. `options[0]` is what the caller asked for."""

    request: Request
    identity: Identity
    standing: Standing
    options: tuple[Option, ...]
    steps: tuple[Mapping[str, int], ...]
    caps: tuple[Scoped, ...]
    anonymous: bool
    on_expiry: OnExpiry
    book: bool

    def command(self, now_ms: int) -> Reserve:
        """The command for `now_ms`: legs for the periods that contain it."""
        applied = [
            apply(self.caps, self.identity, option.model, option.held, steps, now_ms, anonymous=self.anonymous)
            for option, steps in zip(self.options, self.steps, strict=True)
        ]
        return Reserve(
            id=self.request.id,
            fingerprint=self.request.fingerprint,
            candidates=tuple(
                [
                    Candidate(option.model, option.held, option.expected, each.legs, option.tariff.to_dict())
                    for option, each in zip(self.options, applied, strict=True)
                ]
            ),
            identity=self.identity.to_dict(),
            valid_from=max([each.valid_from for each in applied]),
            valid_until=min([each.valid_until for each in applied]),
            ttl_ms=self.request.ttl_ms or TTL_MS,
            grace_ms=GRACE_MS,
            retention_ms=RETENTION_MS,
            on_expiry=self.on_expiry,
            facts=self._facts(),
            book=self.book,
        )

    def _facts(self) -> dict[str, Any]:
        """What the entry says besides amounts: how they were found, and what the caller should be told."""
        facts: dict[str, Any] = {"how": self.options[0].how}
        if self.request.model != self.options[0].model or len(self.options) > 1:
            facts["asked"] = self.request.model
        if flags := [*self.options[0].tariff.flags, *(["unknown_plan"] if self.standing.unknown_plan else [])]:
            facts["flags"] = flags
        return facts


@dataclass(frozen=True, slots=True)
class Overview:
    """An identity's caps, each as a leg of nothing: what `status` looks at."""

    identity: Identity
    plan: str | None
    legs: tuple[Leg, ...]


class Planner:
    """One policy with its prices: turns requests into drafts. Immutable, shared by all threads."""

    def __init__(self, policy: Policy):
        self.policy = policy
        self.rulebook = Rulebook(policy)
        self._ceiling = price_of("ceiling", policy.failure.ceiling, "ceiling")
        self._markups = {name: markup_of(plan.markup) for name, plan in policy.plans.items()}
        self.price = lru_cache(1024)(self._find_price)
        self._unit_rates = lru_cache(1024)(self._find_unit_rates)

    def draft(self, request: Request, *, book: bool = False) -> Draft:
        """Everything about a call but the time. Raises UnknownModel, IdentityMissing."""
        standing = self.rulebook.standing(request.identity)
        identity = request.identity
        if identity.plan != standing.plan:
            identity = Identity(plan=standing.plan).over(identity) if standing.plan else identity
        caps = self.rulebook.caps(standing.plan, identity.user, request.caps)
        options, steps = self._options(request, identity, caps, one=book)
        return Draft(
            request=request,
            identity=identity,
            standing=standing,
            options=options,
            steps=steps,
            caps=caps,
            anonymous=self.policy.failure.missing_identity == "anonymous",
            on_expiry=self.policy.failure.on_expiry,
            book=book,
        )

    def overview(self, identity: Identity, now_ms: int) -> Overview:
        """Every cap that applies to `identity`, those that match a model among them. Raises IdentityMissing."""
        standing = self.rulebook.standing(identity)
        caps = self.rulebook.caps(standing.plan, identity.user, context().caps)
        applied = apply(caps, identity, None, {}, {}, now_ms, anonymous=True, any_model=True)
        return Overview(identity, standing.plan, applied.legs)

    def taken_over(
        self, request: Request, asked: Request, reservation: Reservation, booking: Booking
    ) -> tuple[Reservation, Booking]:
        """An outer layer's reservation as an inner layer sees it.

        A layer that asks for the model that the outer one asked for gets the model that was chosen. The booking is at
        the rates of the model that is really called.
        """
        model = reservation.model if request.model in (None, asked.model) else request.model
        params: dict[str, Any] = {} if model is None else {"model": model}
        if request.output_limit is not None:
            params[request.output_limit[0]] = request.output_limit[1]
        if model is not None and model != booking.model:
            booking = replace(booking, model=model, tariff=self.tariff(model, booking.plan))
        return replace(reservation, model=model, params=params, booking=booking), booking

    def tariff(self, model: str | None, plan: str | None) -> Tariff:
        """By what a call of `model` on `plan` is counted. Raises UnknownModel where the policy denies unknown ones."""
        price = None if model is None else self.price(model)
        units = {} if model is None else self._unit_rates(model)
        return Tariff(price, units, self._markups.get(plan or "", markup_of(None)))

    def _options(
        self, request: Request, identity: Identity, caps: tuple[Scoped, ...], *, one: bool
    ) -> tuple[tuple[Option, ...], tuple[Mapping[str, int], ...]]:
        """The models to consider, and for each the step that every downgrade cap would take from it.

        A cap leads to its own `to`, else to what the policy's map names. Steps only lead forward, so every chain ends.
        """
        models: list[str | None] = [request.model]
        steps: list[dict[str, int]] = []
        steering = [] if one or not request.rewritable or request.model is None else _steering(caps)
        while len(steps) < len(models):
            model = models[len(steps)]
            taken: dict[str, int] = {}
            for cap in steering:
                target = cap.rule.to or cheaper(self.policy.downgrade, model or "")
                if target is None or not cap.applies(identity, model):
                    continue
                if target not in models and len(models) < MAX_CANDIDATES:
                    models.append(target)
                if target in models and models.index(target) > len(steps):
                    taken[cap.rule.id] = models.index(target)
            steps.append(taken)
        return tuple([self._option(request, identity.plan, model) for model in models]), tuple(steps)

    def _option(self, request: Request, plan: str | None, model: str | None) -> Option:
        known = request.known
        if isinstance(known, Usage):
            tariff = self.tariff(model or known.model, plan)
            amounts = tariff.amounts(known)
            return Option(model, tariff, amounts, amounts, "usage")
        tariff = self.tariff(model if known is None or "usd" not in known else None, plan)
        if known is not None:
            amounts = {**known, "requests": 1}
            if "usd" in known:
                amounts["billed"] = tariff.billed(known["usd"])
            return Option(model, tariff, amounts, amounts, "given")
        if tariff.price is None:
            tariff = Tariff(self._unknown("", "the call names no model"), tariff.units, tariff.markup)
        return self._estimated(request, model, tariff)

    def _estimated(self, request: Request, model: str | None, tariff: Tariff) -> Option:
        assert tariff.price is not None
        found = estimate(
            tariff.price,
            model or "",
            **request.prompt,
            max_tokens=None if request.output_limit is None else request.output_limit[1],
            n=request.n,
            default_output=self.policy.estimate.output,
        )
        return Option(model, tariff, tariff.amounts(found.held), tariff.amounts(found.expected), found.how)

    def _find_price(self, model: str) -> Price:
        """The user's exact name, the user's pattern, the bundled book, then what the policy says of unknown models."""
        own = best_match(self.policy.prices, model)
        if own is not None:
            return price_of(model, self.policy.prices[own], "policy")
        return bundled().find(model) or self._unknown(model, f"model {model!r} has no known price")

    def _unknown(self, model: str, why: str) -> Price:
        rule = self.policy.failure.unknown_model
        if rule == "deny":
            close = ", ".join(bundled().closest(model)) if model else ""
            hint = f"; did you mean {close}?" if close else ""
            remedy = f'give it one under [prices."{model or "name"}"], or set unknown_model to ceiling'
            raise UnknownModel(f"{why}{hint} {remedy}")
        if rule == "allow":
            return Price.of(model, input=0, output=0, origin="unpriced")
        return self._ceiling if not model else price_of(model, self.policy.failure.ceiling, "ceiling")

    def _find_unit_rates(self, model: str) -> Mapping[str, UnitRate]:
        found = {unit: (best_match(models, model), models) for unit, models in self.policy.units.items()}
        return {unit: _unit_rate(unit, models[best]) for unit, (best, models) in found.items() if best is not None}


def _steering(caps: tuple[Scoped, ...]) -> list[Scoped]:
    return [cap for cap in caps if cap.rule.action == "downgrade"]


def price_of(model: str, rates: PriceRates | UnitRates, origin: Any) -> Price:
    """Rates of the policy, per million tokens and per request, as integers per token and request."""
    cached = {name: getattr(rates, name) for name in ("cache_read", "cache_write")}
    return Price.of(
        model,
        input=pico_per_unit(rates.input, MILLION),
        output=pico_per_unit(rates.output, MILLION),
        request=pico_per_unit(rates.request),
        max_output=getattr(rates, "max_output", None),
        origin="free" if getattr(rates, "free", False) else origin,
        **{name: pico_per_unit(rate, MILLION) for name, rate in cached.items() if rate is not None},
    )


def _unit_rate(unit: str, rates: UnitRates) -> UnitRate:
    pieces = {name: parts_of(rate, NANO, f"units.{unit}.quantities.{name}") for name, rate in rates.quantities.items()}
    return UnitRate(price_of(unit, rates, "policy"), pieces)
