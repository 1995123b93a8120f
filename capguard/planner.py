"""From a call's arguments to the command that reserves it: its route through the policy, and what it will cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from capguard.arguments import Request
from capguard.booking import Booking
from capguard.identity import Identity, context
from capguard.ledger.caps import Amounts, Leg
from capguard.ledger.commands import Candidate, OnExpiry, Reserve
from capguard.ledger.units import BUILT_IN
from capguard.policy.document import Policy
from capguard.policy.resolve import apply
from capguard.pricing.estimate import estimate
from capguard.pricing.tariff import Tariff
from capguard.pricing.usage import Usage
from capguard.results import Reservation
from capguard.routes import Route, Routes
from capguard.tariffs import Tariffs

TTL_MS = 120_000
"""How long a call is held when it does not say: the time-out of a provider call, and a margin."""

GRACE_MS = 30_000
"""How long a hold still counts after its time to live, for a settle that is on its way."""

RETENTION_MS = 24 * 3600 * 1000
"""How long an id is remembered after its call has ended."""


class Option(NamedTuple):
    """What one model of a route would count for one call, and how that was found."""

    tariff: Tariff
    rates: Mapping[str, Any]
    held: Amounts
    expected: Amounts
    how: str


class Draft(NamedTuple):
    """A call with everything that does not depend on the time. The first option is what the caller asked for."""

    request: Request
    route: Route
    options: tuple[Option, ...]
    on_expiry: OnExpiry
    book: bool

    def command(self, now_ms: int) -> Reserve:
        """The command for `now_ms`: legs for the periods that contain it. Raises IdentityMissing."""
        route, request = self.route, self.request
        span = route.span(now_ms)
        candidates = tuple(
            [
                Candidate(model, option.held, option.expected, legs, option.rates)
                for model, option, legs in zip(route.models, self.options, span.legs, strict=True)
            ]
        )
        return Reserve(
            request.id,
            request.fingerprint,
            candidates,
            route.named,
            span.valid_from,
            span.valid_until,
            request.ttl_ms or TTL_MS,
            GRACE_MS,
            RETENTION_MS,
            self.on_expiry,
            self._facts(),
            self.book,
        )

    def _facts(self) -> Mapping[str, Any]:
        """What the entry says besides amounts: how they were found, and what the caller should be told."""
        asked = self.options[0]
        facts: dict[str, Any] = {"how": asked.how}
        if len(self.options) > 1:
            facts["asked"] = self.request.model
        flags = asked.tariff.flags
        if self.route.unknown_plan is not None:
            flags = (*flags, "unknown_plan")
        if flags:
            facts["flags"] = flags
        return facts


class Overview(NamedTuple):
    """An identity's caps: what `status` looks at."""

    identity: Identity
    plan: str | None
    legs: tuple[Leg, ...]


class Planner:
    """One policy with its prices: turns requests into drafts. Immutable, shared by all threads."""

    def __init__(self, policy: Policy):
        self.policy = policy
        self.tariffs = Tariffs(policy)
        self._routes = Routes(policy, self.tariffs)
        self._units = frozenset((*BUILT_IN, *policy.units, *_units_of_caps(policy)))

    def draft(self, request: Request, *, book: bool = False) -> Draft:
        """Everything about a call but the time; with `book`, for one step without steering. Raises UnknownModel."""
        known = request.known
        model = request.model
        if isinstance(known, Usage):
            model = model or known.model
        elif known is not None and not known.keys() <= self._units | {cap.unit for cap in request.caps}:
            raise ValueError(
                f"unit: {', '.join(known)} is in no cap and no [units]; allowed: {', '.join(sorted(self._units))}"
            )
        steered = request.rewritable and not book
        route = self._routes.of(request.identity, model, steered=steered, caps=request.caps)
        priced = zip(route.models, route.tariffs, route.rates, strict=True)
        options = tuple([self._option(request, *each) for each in priced])
        return Draft(request, route, options, self.policy.failure.on_expiry, book)

    def overview(self, identity: Identity, now_ms: int) -> Overview:
        """Every cap that applies to `identity`, those that match a model among them."""
        rulebook = self._routes.rulebook
        standing = rulebook.standing(identity)
        caps = rulebook.caps(standing.plan, identity.user, context().caps)
        placed = identity if standing.plan is None else Identity(plan=standing.plan).over(identity)
        applied = apply(caps, placed, None, {}, now_ms, anonymous=True, any_model=True)
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
            booking = booking._replace(model=model, tariff=self.tariffs.of(model, booking.plan))
        return replace(reservation, model=model, params=params, booking=booking), booking

    def _option(self, request: Request, model: str | None, tariff: Tariff, rates: Mapping[str, Any]) -> Option:
        known = request.known
        if known is None and tariff.price is None:
            tariff = self.tariffs.of_nameless(request.identity.plan)
            return self._estimated(request, "", tariff, tariff.to_dict())
        if known is None:
            return self._estimated(request, model or "", tariff, rates)
        if isinstance(known, Usage):
            amounts: Amounts = tariff.amounts(known)
            return Option(tariff, rates, amounts, amounts, "usage")
        amounts = {**known, "requests": 1}
        if "usd" in known:
            amounts["billed"] = tariff.billed(known["usd"])
        return Option(tariff, rates, amounts, amounts, "given")

    def _estimated(self, request: Request, model: str, tariff: Tariff, rates: Mapping[str, Any]) -> Option:
        assert tariff.price is not None
        limit = request.output_limit
        found = estimate(
            tariff.price,
            model,
            **request.prompt,
            max_tokens=None if limit is None else limit[1],
            n=request.n,
            default_output=self.policy.estimate.output,
        )
        held = tariff.amounts(found.held)
        expected = held if found.expected == found.held else tariff.amounts(found.expected)
        return Option(tariff, rates, held, expected, found.how)


def _units_of_caps(policy: Policy) -> Iterator[str]:
    for cap in chain(policy.caps, *(plan.caps for plan in policy.plans.values())):
        yield cap.unit
    for change in chain.from_iterable(user.caps for user in policy.users.values()):
        if change.unit is not None:
            yield change.unit
