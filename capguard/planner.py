"""From a call's arguments to the command that reserves it: its route through the policy, and what it will cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from capguard.arguments import NO_NEEDS, Request
from capguard.booking import Booking
from capguard.habits import Habits
from capguard.identity import Identity, context
from capguard.ledger import units
from capguard.ledger.caps import Leg
from capguard.ledger.commands import Candidate, Offline, OnExpiry, Reserve, Scale
from capguard.ledger.ids import RETENTION_MS
from capguard.ledger.units import BUILT_IN
from capguard.options import Option, Options
from capguard.policy.document import Cap, Failure, Policy
from capguard.policy.profile import UserProfile
from capguard.policy.resolve import apply, every_cap
from capguard.pricing.book import PriceBook
from capguard.pricing.usage import Usage
from capguard.results import Reservation
from capguard.routes import Route, Routes
from capguard.tariffs import Tariffs

TTL_MS = 120_000
"""How long a call is held when it does not say: the time-out of a provider call, and a margin."""

GRACE_MS = 30_000
"""How long a hold still counts after its time to live, for a settle that is on its way."""


class Draft(NamedTuple):
    """A call with everything that does not depend on the time. The first option is what the caller asked for."""

    request: Request
    route: Route
    options: tuple[Option, ...]
    on_expiry: OnExpiry
    book: bool
    policy: int | None = None
    thresholds: tuple[int, ...] = ()
    strict: bool = False
    offline: Offline | None = None

    def command(self, now_ms: int, *, waits: bool = False) -> Reserve:
        """The command for `now_ms`: legs for the periods that contain it. Raises IdentityMissing."""
        route, request = self.route, self.request
        span = route.span(now_ms)
        candidates = tuple(
            [
                Candidate(model, option.held, option.expected, legs, option.rates, sources, self._scale(option, legs))
                for model, option, legs, sources in zip(
                    route.models, self.options, span.legs, span.sources, strict=True
                )
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
            route.profile.revision,
            self.policy,
            self.thresholds,
            waits,
            None if span.closed else self.offline,
        )

    def _scale(self, option: Option, legs: tuple[Leg, ...]) -> Scale | None:
        clamps = any(leg.action == "clamp" for leg in legs)
        return option.scale(self.request.choices) if clamps and not self.book else None

    def _facts(self) -> Mapping[str, Any]:
        """What the entry says besides amounts: how they were found, and what the caller should be told."""
        asked = self.options[0]
        facts: dict[str, Any] = {"how": asked.how}
        if asked.usage is not None:
            facts["how_output"] = asked.how_output
            if self.request.choices > 1:
                facts["choices"] = self.request.choices
        if self.strict:
            facts["strict"] = True
        if len(self.options) > 1:
            facts["asked"] = self.request.model
        flags = asked.tariff.flags
        if self.route.unknown_plan is not None:
            flags = (*flags, "unknown_plan")
        if self.route.unfit:
            facts["unfit"] = self.route.unfit
        if flags:
            facts["flags"] = flags
        return facts


class Overview(NamedTuple):
    """An identity's caps and sources: what `status` looks at. `since_ms` is from when on caps count, by their ids."""

    identity: Identity
    plan: str | None
    legs: tuple[Leg, ...]
    sources: tuple[Leg, ...]
    profile: UserProfile
    since_ms: Mapping[str, int]


class Planner:
    """One policy with its prices: turns requests into drafts. Immutable, shared by all threads.

    `habits`, which go on learning, say how long replies are.
    """

    def __init__(self, policy: Policy, book: PriceBook | None = None, habits: Habits | None = None):
        self.policy = policy
        self.tariffs = Tariffs(policy, book)
        self._options = Options(policy, self.tariffs, Habits() if habits is None else habits)
        self._routes = Routes(policy, self.tariffs)
        self._thresholds = tuple(int(share * 1_000_000) for share in policy.alerts.thresholds)
        self._offline = _offline(policy.failure)
        self.units = frozenset((*BUILT_IN, *policy.units, *(cap.unit or "usd" for cap in every_cap(policy))))

    def draft(
        self, request: Request, profile: UserProfile, now_ms: int, *, book: bool = False, bound: bool = False
    ) -> Draft:
        """A call as this policy and a profile have it; with `book`, for one step without steering; with `bound`, held
        at what it can cost at most, without counting its input.

        Raises UnknownModel, IdentityMissing.
        """
        known = request.known
        model = request.model
        if isinstance(known, Usage):
            model = model or known.model
        elif known is not None and not known.keys() <= self.units | {cap.unit for cap in request.caps}:
            raise ValueError(
                f"unit: {', '.join(known)} is in no cap and no [units]; allowed: {', '.join(sorted(self.units))}"
            )
        steered = request.rewritable and not book
        needs = request.needs if steered and self._routes.may_steer(request.caps, profile) else NO_NEEDS
        route = self._routes.of(
            request.identity, model, profile, now_ms, steered=steered, needs=needs, caps=request.caps
        )
        priced = zip(route.models, route.tariffs, route.rates, route.span(now_ms).legs, strict=True)
        options = tuple([self._options.of(request, *each, bound=bound) for each in priced])
        strict = self.policy.estimate.strict and request.rewritable and not book and request.known is None
        failure = self.policy.failure
        stopped = failure.backend == "closed" and not any(route.span(now_ms).legs)
        offline = (
            None if stopped else self._offline
        )  # a cap that applies says by itself whether it lets the call be made
        return Draft(request, route, options, failure.on_expiry, book, None, self._thresholds, strict, offline)

    def overview(self, identity: Identity, profile: UserProfile, now_ms: int, since: Mapping[str, int]) -> Overview:
        """Every cap that applies to `identity`, those that match a model among them, and every source.

        `since` is from when on caps count that came in later, by their kinds.
        """
        rulebook = self._routes.rulebook
        standing = rulebook.standing(identity, profile)
        caps = rulebook.caps(standing.plan, identity.user, context().caps, profile.changes_at(now_ms))
        placed = identity if standing.plan is None else Identity(plan=standing.plan).over(identity)
        applied = apply(caps, placed, None, {}, now_ms, anonymous=True, looking=True)
        sources = rulebook.funding.sources(placed, None, profile, now_ms, good_for_all=True)
        since_ms = (
            {cap.rule.id: since[cap.rule.kind_key] for cap in caps if cap.rule.kind_key in since} if since else {}
        )
        return Overview(identity, standing.plan, applied.legs, sources, profile, since_ms)

    def check_targets(self, caps: Iterable[Cap]) -> None:
        """Raise PolicyError where a downgrade of `caps`, brought in beside the policy's, goes dearer or in a circle."""
        self._routes.check_targets(caps)

    def funding_unit(self, user: str, profile: UserProfile) -> str:
        """The unit in which a user's plan is funded."""
        rulebook = self._routes.rulebook
        return rulebook.funding.unit(rulebook.standing(Identity(user=user), profile).plan)

    def loosened(self, user: str, profile: UserProfile, unit: str, now_ms: int) -> tuple[str, ...]:
        """The caps that count less of a user's calls for a grant in `unit`; none where such a grant does not pay."""
        rulebook = self._routes.rulebook
        plan = rulebook.standing(Identity(user=user), profile).plan
        if unit != rulebook.funding.unit(plan):
            return ()
        named = Identity(user=user, plan=plan)
        caps = rulebook.caps(plan, user, (), profile.changes_at(now_ms))
        return tuple(cap.rule.id for cap in caps if cap.rule.ignore_grants and cap.may_apply(named))

    def taken_over(
        self, request: Request, asked: Request, reservation: Reservation, booking: Booking
    ) -> tuple[Reservation, Booking]:
        """An outer layer's reservation as an inner layer sees it.

        A layer that asks for the model that the outer one asked for gets the model that was chosen. The booking is at
        the rates of the model that is really called; a name without the prefix of its host is no other model.
        """
        model = reservation.model if request.model in (None, asked.model) else request.model
        params: dict[str, Any] = {} if model is None else {"model": model}
        if request.output_limit is not None:
            params[request.output_limit[0]] = request.output_limit[1]
        if model is not None and not f"/{booking.model}".endswith(f"/{model}"):
            booking = booking._replace(model=model, tariff=self.tariffs.of(model, booking.plan))
        return replace(reservation, model=model, params=params, booking=booking), booking


def _offline(failure: Failure) -> Offline:
    """What a policy lets through while the backend is away."""
    allowance = units.parse("usd", failure.offline_allowance, "offline_allowance")
    return Offline(int(failure.offline_share * 1_000_000), allowance)
