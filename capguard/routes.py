"""The way of one identity's calls to a model through the policy: which models may serve, and which caps hold.

A route is everything about a call but its size. It is the same for the next call, so it is remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from capguard.acceptance import is_dearer, target_findings
from capguard.errors import Finding, PolicyError
from capguard.identity import Identity
from capguard.ledger.caps import Leg
from capguard.policy.changes import Change
from capguard.policy.document import Cap, Policy
from capguard.policy.downgrade import MAX_CANDIDATES, cheaper
from capguard.policy.funding import Funding
from capguard.policy.profile import UserProfile
from capguard.policy.resolve import Rulebook, Scoped, apply, every_cap
from capguard.pricing.downgrades import table
from capguard.pricing.tariff import Tariff
from capguard.tariffs import Tariffs

_REMEMBERED = 8192


class Span(NamedTuple):
    """The legs of every model of a route, right for [valid_from, valid_until).

    `closed`: a cap among them does not let the call be made while the backend is away.
    """

    valid_from: int
    valid_until: int
    legs: tuple[tuple[Leg, ...], ...]
    sources: tuple[tuple[Leg, ...], ...]
    closed: bool = False


class Ladder(NamedTuple):
    """The models of a route, the step that every downgrade cap takes from each, and the models that were passed by."""

    models: tuple[str | None, ...]
    steps: tuple[Mapping[str, int], ...] = ({},)
    unfit: tuple[str, ...] = ()


class Route:
    """The models that may serve, in the order of the downgrade steps, each with its tariff and its legs.

    `unfit` are those that a downgrade would lead to and that lack what the call needs.
    """

    def __init__(
        self,
        identity: Identity,
        unknown_plan: str | None,
        models: tuple[str | None, ...],
        steps: tuple[Mapping[str, int], ...],
        caps: tuple[Scoped, ...],
        tariffs: tuple[Tariff, ...],
        *,
        unfit: tuple[str, ...],
        anonymous: bool,
        profile: UserProfile,
        funding: Funding,
    ):
        self.profile = profile
        self.identity = identity
        self.named = identity.to_dict()
        self.unknown_plan = unknown_plan
        self.models = models
        self.unfit = unfit
        self.tariffs = tariffs
        self.rates = tuple([tariff.to_dict() for tariff in tariffs])
        self._steps = steps
        self._caps = caps
        self._anonymous = anonymous
        self._funding = funding
        self._span = Span(0, 0, (), ())

    def span(self, now_ms: int) -> Span:
        """The legs for the periods that contain `now_ms`. Raises IdentityMissing."""
        span = self._span
        if not span.valid_from <= now_ms < span.valid_until:
            self._span = span = self._apply(now_ms)
        return span

    def _apply(self, now_ms: int) -> Span:
        applied = [
            apply(self._caps, self.identity, model, steps, now_ms, anonymous=self._anonymous)
            for model, steps in zip(self.models, self._steps, strict=True)
        ]
        spans = [(each.valid_from, each.valid_until) for each in applied]
        spans += [self.profile.span(now_ms), self._funding.span(self.identity, now_ms)]
        return Span(
            max(starts for starts, _ in spans),
            min(ends for _, ends in spans),
            tuple(each.legs for each in applied),
            tuple(self._funding.sources(self.identity, model, self.profile, now_ms) for model in self.models),
            any(each.closed for each in applied),
        )


class Routes:
    """The routes through one policy. Shared by all threads; the ones last used are remembered."""

    def __init__(self, policy: Policy, tariffs: Tariffs):
        self.rulebook = Rulebook(policy)
        self._tariffs = tariffs
        self._steers = any(cap.action == "downgrade" for cap in every_cap(policy))
        self._cheaper = {**table(), **policy.downgrade} if policy.curated_downgrades else policy.downgrade
        self._anonymous = policy.failure.missing_identity == "anonymous"
        self._remembered = lru_cache(_REMEMBERED)(self._find)
        self._amiss = lru_cache(_REMEMBERED)(self._find_amiss)

    def check_targets(self, caps: Iterable[Cap]) -> None:
        """Raise PolicyError where a downgrade of `caps`, brought in beside the policy's, goes dearer or in a circle."""
        if findings := [finding for cap in caps if cap.to is not None for finding in self._amiss(cap)]:
            raise PolicyError([*dict.fromkeys(findings)])

    def _find_amiss(self, cap: Cap) -> tuple[Finding, ...]:
        return tuple(target_findings(self.rulebook.policy, self._tariffs.known, cap))

    def may_steer(self, caps: tuple[Cap, ...], profile: UserProfile) -> bool:
        """Whether some cap may lead a call to a cheaper model: of the policy, of the call, or changed for its user."""
        return self._steers or bool(profile.changes) or any(cap.action == "downgrade" for cap in caps)

    def of(
        self,
        identity: Identity,
        model: str | None,
        profile: UserProfile,
        now_ms: int,
        *,
        steered: bool,
        needs: frozenset[str],
        caps: tuple[Cap, ...],
    ) -> Route:
        """The route of a call. Only a `steered` one may lead to cheaper models, to those without what it `needs` never.

        `caps` hold for this call alone. Raises UnknownModel, IdentityMissing for a plan that does not exist,
        PolicyError for `caps` that cannot stand beside the policy's.
        """
        changes = profile.changes_at(now_ms) if profile.changes else ()
        if caps:
            self.check_targets(caps)
        if caps or identity.tags or changes:
            return self._find(identity, model, steered, needs, caps, profile, changes)
        return self._remembered(identity, model, steered, needs, (), profile, ())

    def _find(
        self,
        identity: Identity,
        model: str | None,
        steered: bool,
        needs: frozenset[str],
        extra: tuple[Cap, ...],
        profile: UserProfile,
        changes: tuple[Change, ...],
    ) -> Route:
        standing = self.rulebook.standing(identity, profile)
        if standing.plan is not None and identity.plan != standing.plan:
            identity = Identity(plan=standing.plan).over(identity)
        caps = self.rulebook.caps(standing.plan, identity.user, extra, changes)
        ladder = self._ladder(identity, model, needs, caps) if steered and model is not None else Ladder((model,))
        tariffs = tuple([self._tariffs.of(each, standing.plan) for each in ladder.models])
        return Route(
            identity,
            standing.unknown_plan,
            ladder.models,
            ladder.steps,
            caps,
            tariffs,
            unfit=ladder.unfit,
            anonymous=self._anonymous,
            profile=profile,
            funding=self.rulebook.funding,
        )

    def _ladder(self, identity: Identity, model: str, needs: frozenset[str], caps: tuple[Scoped, ...]) -> Ladder:
        """The models to consider, and for each the step that every downgrade cap would take from it.

        A cap leads to its own `to`, else to what the policy's map names; past models that lack what the call needs, or
        that are dearer than the one they would replace, on to cheaper ones. Steps only lead forward: every chain ends.
        """
        models: list[str] = [model]
        steps: list[Mapping[str, int]] = []
        unfit: list[str] = []
        steering = [cap for cap in caps if cap.rule.action == "downgrade"]
        while len(steps) < len(models):
            current = models[len(steps)]
            taken: dict[str, int] = {}
            for cap in steering:
                if not cap.applies(identity, current):
                    continue
                target = self._fit(cap.rule.to or cheaper(self._cheaper, current), current, needs, unfit)
                if target is not None and target not in models and len(models) < MAX_CANDIDATES:
                    models.append(target)
                if target in models and models.index(target) > len(steps):
                    taken[cap.rule.id] = models.index(target)
            steps.append(taken)
        return Ladder(tuple(models), tuple(steps), tuple(dict.fromkeys(unfit)))

    def _fit(self, target: str | None, current: str, needs: frozenset[str], unfit: list[str]) -> str | None:
        """`target`, or the next cheaper model that may stand in for `current`; those without `needs` go to `unfit`."""
        for _ in range(MAX_CANDIDATES):
            if target is None:
                break
            if self._tariffs.lacks(target, needs):
                unfit.append(target)
            elif not self._is_dearer(target, current):
                return target
            target = cheaper(self._cheaper, target)
        return None

    def _is_dearer(self, target: str, current: str) -> bool:
        """Whether a pattern leads to a dearer model: at load it was right for some of the models that it names."""
        found, asked = self._tariffs.known(target), self._tariffs.known(current)
        return found is not None and asked is not None and is_dearer(found, asked)
