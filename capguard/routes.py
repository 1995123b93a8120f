"""The way of one identity's calls to a model through the policy: which models may serve, and which caps hold.

A route is everything about a call but its size. It is the same for the next call, so it is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from capguard.identity import Identity
from capguard.ledger.caps import Leg
from capguard.policy.document import Cap, Policy
from capguard.policy.downgrade import MAX_CANDIDATES, cheaper
from capguard.policy.resolve import Rulebook, Scoped, apply
from capguard.pricing.tariff import Tariff
from capguard.tariffs import Tariffs

_REMEMBERED = 8192


class Span(NamedTuple):
    """The legs of every model of a route, right for [valid_from, valid_until)."""

    valid_from: int
    valid_until: int
    legs: tuple[tuple[Leg, ...], ...]


class Route:
    """The models that may serve, in the order of the downgrade steps, each with its tariff and its legs."""

    def __init__(
        self,
        identity: Identity,
        unknown_plan: str | None,
        models: tuple[str | None, ...],
        steps: tuple[Mapping[str, int], ...],
        caps: tuple[Scoped, ...],
        tariffs: tuple[Tariff, ...],
        *,
        anonymous: bool,
    ):
        self.identity = identity
        self.named = identity.to_dict()
        self.unknown_plan = unknown_plan
        self.models = models
        self.tariffs = tariffs
        self.rates = tuple([tariff.to_dict() for tariff in tariffs])
        self._steps = steps
        self._caps = caps
        self._anonymous = anonymous
        self._span = Span(0, 0, ())

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
        return Span(
            max(each.valid_from for each in applied),
            min(each.valid_until for each in applied),
            tuple(each.legs for each in applied),
        )


class Routes:
    """The routes through one policy. Shared by all threads; the ones last used are remembered."""

    def __init__(self, policy: Policy, tariffs: Tariffs):
        self.rulebook = Rulebook(policy)
        self._policy = policy
        self._tariffs = tariffs
        self._anonymous = policy.failure.missing_identity == "anonymous"
        self._remembered = lru_cache(_REMEMBERED)(self._find)

    def of(self, identity: Identity, model: str | None, *, steered: bool, caps: tuple[Cap, ...]) -> Route:
        """The route of a call. Only a `steered` one may lead to cheaper models; `caps` hold for this call alone.

        Raises UnknownModel, IdentityMissing for a plan that does not exist.
        """
        if caps or identity.tags:
            return self._find(identity, model, steered, caps)
        return self._remembered(identity, model, steered, ())

    def _find(self, identity: Identity, model: str | None, steered: bool, extra: tuple[Cap, ...]) -> Route:
        standing = self.rulebook.standing(identity)
        if standing.plan is not None and identity.plan != standing.plan:
            identity = Identity(plan=standing.plan).over(identity)
        caps = self.rulebook.caps(standing.plan, identity.user, extra)
        models, steps = self._ladder(identity, model, caps) if steered and model is not None else ([model], [{}])
        tariffs = tuple([self._tariffs.of(each, standing.plan) for each in models])
        unknown = standing.unknown_plan
        return Route(identity, unknown, tuple(models), tuple(steps), caps, tariffs, anonymous=self._anonymous)

    def _ladder(
        self, identity: Identity, model: str, caps: tuple[Scoped, ...]
    ) -> tuple[list[str | None], list[Mapping[str, int]]]:
        """The models to consider, and for each the step that every downgrade cap would take from it.

        A cap leads to its own `to`, else to what the policy's map names. Steps only lead forward, so every chain ends.
        """
        models: list[str | None] = [model]
        steps: list[Mapping[str, int]] = []
        steering = [cap for cap in caps if cap.rule.action == "downgrade"]
        while len(steps) < len(models):
            current = models[len(steps)]
            taken: dict[str, int] = {}
            for cap in steering:
                target = cap.rule.to or cheaper(self._policy.downgrade, current or "")
                if target is None or not cap.applies(identity, current):
                    continue
                if target not in models and len(models) < MAX_CANDIDATES:
                    models.append(target)
                if target in models and models.index(target) > len(steps):
                    taken[cap.rule.id] = models.index(target)
            steps.append(taken)
        return models, steps
