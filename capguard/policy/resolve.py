"""Which caps hold for this call: the policy compiled, then matched against an identity and a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from capguard.errors import IdentityMissing
from capguard.identity import Identity
from capguard.ledger import units
from capguard.ledger.caps import CapRule, Leg
from capguard.ledger.periods import Period
from capguard.ledger.windows import FOREVER_MS, parse, resets_at
from capguard.policy.changes import Change, extra_caps, laid_over, overridden
from capguard.policy.document import Cap, CapChange, Policy
from capguard.policy.funding import Funding
from capguard.policy.globs import any_matches, model_names
from capguard.policy.profile import NO_PROFILE, UserProfile

Patterns = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Scoped:
    """A compiled cap, the calls it applies to, and whether those may not be made while the backend is away."""

    rule: CapRule
    match: Patterns
    closed: bool = False

    def applies(self, identity: Identity, model: str | None, *, any_model: bool = False) -> bool:
        return all(
            any_matches(patterns, model_names(model) if name == "model" else (identity.value(name),))
            for name, patterns in self.match
            if not (any_model and name == "model")
        )

    def may_apply(self, identity: Identity) -> bool:
        """Whether it applies to some call of `identity`, whatever else that call names."""
        named = [(identity.value(name), patterns) for name, patterns in self.match if name != "model"]
        return all(value is None or any_matches(patterns, (value,)) for value, patterns in named)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an identity stands in the policy: the plan that holds, and whether another one was asked for in vain."""

    plan: str | None
    unknown_plan: str | None = None


class Rulebook:
    """One policy, compiled once and read by every call."""

    def __init__(self, policy: Policy):
        self.policy = policy
        self.funding = Funding(policy)
        self._plans = {name: self._compile(plan.caps) for name, plan in policy.plans.items()}
        self._global = self._compile(policy.caps)
        self._users: dict[tuple[str | None, str], tuple[Scoped, ...]] = {}

    def rules(self) -> Iterator[CapRule]:
        """Every cap that may apply to somebody."""
        users = [self._of_plan(plan, user) for user in self.policy.users for plan in (None, *self._plans)]
        for scoped in chain(self._global, *self._plans.values(), *users):
            yield scoped.rule

    def standing(self, identity: Identity, profile: UserProfile = NO_PROFILE) -> Standing:
        """The plan: as the call names it, as it was assigned, as the file says of the user, the default.

        One that the policy does not know falls to the default. Raises IdentityMissing where there is none.
        """
        named = identity.plan or profile.plan or self._users_plan(identity.user)
        if named is None or named in self.policy.plans:
            return Standing(named or self.policy.default_plan)
        if self.policy.default_plan is None:
            raise IdentityMissing(f"plan {named!r} is not in the policy, which has no default_plan to fall to")
        return Standing(self.policy.default_plan, unknown_plan=named)

    def caps(
        self, plan: str | None, user: str | None, extra: Sequence[Cap] = (), changes: Sequence[Change] = ()
    ) -> tuple[Scoped, ...]:
        """Every cap that may apply, in policy order: the plan's with the user's changes, the user's, global, extra.

        `changes` are those made at run time: each changes the cap of its id, or is a cap of its own. Raises PolicyError
        for `extra` caps that cannot stand beside the others.
        """
        if changes:
            caps = [*overridden(self.policy, plan, user), *self.policy.caps]
            standing = self._compile(laid_over(caps, changes))
        else:
            standing = (*self._of_plan(plan, user), *self._global)
        if not extra:
            return standing
        taken = {scoped.rule.id for scoped in standing}
        return (*standing, *self._compile(extra_caps(self.policy, plan, taken, extra)))

    def _users_plan(self, user: str | None) -> str | None:
        own = self.policy.users.get(user) if user is not None else None
        return own.plan if own is not None else None

    def _of_plan(self, plan: str | None, user: str | None) -> tuple[Scoped, ...]:
        if user is None or user not in self.policy.users:
            return self._plans[plan] if plan is not None else ()
        key = plan, user
        if key not in self._users:
            self._users[key] = self._compile(overridden(self.policy, plan, user))
        return self._users[key]

    def _compile(self, caps: Iterable[Cap]) -> tuple[Scoped, ...]:
        return tuple([_compiled(cap, self.policy.timezone, self.policy.failure.backend) for cap in caps])


def every_cap(policy: Policy) -> Iterator[Cap | CapChange]:
    """Every cap and every change of one that is written in `policy`."""
    yield from policy.caps
    for plan in policy.plans.values():
        yield from plan.caps
    for user in policy.users.values():
        yield from user.caps


class Applied(NamedTuple):
    """The legs of one candidate, and the span of time for which they are right.

    `closed`: one of the caps does not let the call be made while the backend is away.
    """

    legs: tuple[Leg, ...]
    valid_from: int
    valid_until: int
    closed: bool = False


def apply(
    caps: Sequence[Scoped],
    identity: Identity,
    model: str | None,
    steps: Mapping[str, int],
    now_ms: int,
    *,
    anonymous: bool,
    looking: bool = False,
) -> Applied:
    """The legs that a call puts on every cap that applies. `steps`: per downgrade cap, the candidate it leads to.

    `looking` is for those who only want to see: caps that match a model apply whatever it is, and none is missed that
    requires a field. Raises IdentityMissing where a cap counts per user and the call names none, unless `anonymous`.
    """
    legs: list[Leg] = []
    valid_from, valid_until = 0, FOREVER_MS
    closed = False
    for scoped in caps:
        rule = scoped.rule
        if scoped.match and not scoped.applies(identity, model, any_model=looking):
            continue
        values = _values(rule, identity, anonymous, required=rule.required and not looking)
        if values is None:
            continue
        period = rule.window.period(now_ms)
        valid_from, valid_until = max(valid_from, period.starts_at_ms), min(valid_until, period.ends_at_ms)
        closed = closed or scoped.closed
        legs.append(_leg(rule, values, period, resets_at(rule.window, now_ms), steps.get(rule.id, -1)))
    _check_meters(legs)
    return Applied(tuple(legs), valid_from, valid_until, closed)


def _leg(rule: CapRule, values: Sequence[str | None], period: Period, ends: int | None, step: int) -> Leg:
    return Leg(
        meter=rule.meter(values),
        period=period.starts_at_ms,
        limit=rule.limit,
        since=period.since_ms,
        ends=FOREVER_MS if ends is None else ends,
        cap=rule.id,
        unit=rule.unit,
        action=rule.action,
        scope=rule.scope(values),
        step=step,
        otherwise=rule.otherwise,
        overage_only=rule.overage_only,
        ignore_grants=rule.ignore_grants,
        min_output=rule.min_output,
        max_wait_ms=rule.max_wait_ms,
        idle_ms=rule.idle_ms,
    )


def _check_meters(legs: Sequence[Leg]) -> None:
    """Two caps on one meter would each be judged without the other: a cap for one call needs an id of its own."""
    meters = {leg.meter for leg in legs}
    if len(meters) < len(legs):
        ids = sorted({leg.cap for leg in legs if sum(leg.meter == other.meter for other in legs) > 1})
        raise ValueError(f"caps: {', '.join(ids)} is in the policy already for this call; allowed: another id")


def _values(rule: CapRule, identity: Identity, anonymous: bool, *, required: bool) -> tuple[str | None, ...] | None:
    """The identity values that pick the meter; None where the cap does not apply for want of one."""
    values = tuple([identity.value(name) for name in rule.per])
    if None not in values:
        return values
    missing = [name for name, value in zip(rule.per, values, strict=True) if value is None]
    if required or ("user" in missing and not anonymous):
        needs = ", ".join(missing)
        raise IdentityMissing(f"cap {rule.id!r} counts per {', '.join(rule.per)} and the call names no {needs}")
    return values if missing == ["user"] else None


def _compiled(cap: Cap, zone: str, on_backend_error: str) -> Scoped:
    rule = CapRule(
        id=cap.id,
        unit=cap.unit,
        limit=units.parse(cap.unit, cap.limit, "limit"),
        per=tuple(cap.per),
        window=parse(cap.window, zone),
        action=cap.action,
        otherwise=cap.otherwise,
        to=cap.to,
        overage_only=cap.overage_only,
        ignore_grants=cap.ignore_grants,
        required=cap.required,
        public=cap.public,
        min_output=cap.min_output if cap.action == "clamp" else 0,
        max_wait_ms=int(cap.max_wait * 1000) if cap.action == "throttle" else 0,
        idle_ms=cap.idle_ms or 0,
    )
    closed = (cap.on_backend_error or on_backend_error) == "closed"
    return Scoped(rule, () if cap.match is None else cap.match.patterns, closed)
