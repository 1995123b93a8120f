"""Which caps hold for this call: the policy compiled, then matched against an identity and a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from capguard.errors import IdentityMissing
from capguard.identity import Identity
from capguard.ledger import units
from capguard.ledger.caps import CapRule, Leg
from capguard.ledger.windows import FOREVER_MS, parse, resets_at
from capguard.policy.document import Cap, Policy

Patterns = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Scoped:
    """A compiled cap, and the calls it applies to."""

    rule: CapRule
    match: Patterns

    def applies(self, identity: Identity, model: str | None, *, any_model: bool = False) -> bool:
        return all(
            _matches(patterns, _names(model) if name == "model" else (identity.value(name),))
            for name, patterns in self.match
            if not (any_model and name == "model")
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an identity stands in the policy: the plan that holds, and whether another one was asked for in vain."""

    plan: str | None
    unknown_plan: str | None = None


class Rulebook:
    """One policy, compiled once and read by every call."""

    def __init__(self, policy: Policy):
        self.policy = policy
        self._plans = {name: self._compile(plan.caps) for name, plan in policy.plans.items()}
        self._global = self._compile(policy.caps)
        self._users: dict[tuple[str | None, str], tuple[Scoped, ...]] = {}

    def standing(self, identity: Identity) -> Standing:
        """The plan: as the call names it, else the user's, else the default. An unknown one falls to the default."""
        named = identity.plan or self._users_plan(identity.user)
        if named is None or named in self.policy.plans:
            return Standing(named or self.policy.default_plan)
        if self.policy.default_plan is None:
            raise IdentityMissing(f"plan {named!r} is not in the policy, which has no default_plan to fall to")
        return Standing(self.policy.default_plan, unknown_plan=named)

    def caps(self, plan: str | None, user: str | None, extra: Iterable[Cap] = ()) -> tuple[Scoped, ...]:
        """Every cap that may apply, in policy order: the plan's with the user's changes, the user's, global, extra."""
        added = self._compile(extra)
        return (*self._of_plan(plan, user), *self._global, *added)

    def _users_plan(self, user: str | None) -> str | None:
        own = self.policy.users.get(user) if user is not None else None
        return own.plan if own is not None else None

    def _of_plan(self, plan: str | None, user: str | None) -> tuple[Scoped, ...]:
        if user is None or user not in self.policy.users:
            return self._plans[plan] if plan is not None else ()
        key = plan, user
        if key not in self._users:
            self._users[key] = self._compile(_overridden(self.policy, plan, user))
        return self._users[key]

    def _compile(self, caps: Iterable[Cap]) -> tuple[Scoped, ...]:
        return tuple([_compiled(cap, self.policy.timezone) for cap in caps])


class Applied(NamedTuple):
    """The legs of one candidate, and the span of time for which they are right."""

    legs: tuple[Leg, ...]
    valid_from: int
    valid_until: int


def apply(
    caps: Sequence[Scoped],
    identity: Identity,
    model: str | None,
    steps: Mapping[str, int],
    now_ms: int,
    *,
    anonymous: bool,
    any_model: bool = False,
) -> Applied:
    """The legs that a call puts on every cap that applies. `steps`: per downgrade cap, the candidate it leads to.

    With `any_model`, caps that match a model apply whatever it is. Raises IdentityMissing where a cap counts per user
    and the call names none, unless `anonymous`.
    """
    legs: list[Leg] = []
    valid_from, valid_until = 0, FOREVER_MS
    for scoped in caps:
        rule = scoped.rule
        if scoped.match and not scoped.applies(identity, model, any_model=any_model):
            continue
        values = _values(rule, identity, anonymous)
        if values is None:
            continue
        period = rule.window.period(now_ms)
        valid_from, valid_until = max(valid_from, period.starts_at_ms), min(valid_until, period.ends_at_ms)
        ends = resets_at(rule.window, now_ms)
        legs.append(
            Leg(
                meter=rule.meter(values),
                period=period.starts_at_ms,
                limit=rule.limit,
                since=period.since_ms,
                ends=FOREVER_MS if ends is None else ends,
                cap=rule.id,
                unit=rule.unit,
                action=rule.action,
                scope=rule.scope(values),
                step=steps.get(rule.id, -1),
                otherwise=rule.otherwise,
            )
        )
    _check_meters(legs)
    return Applied(tuple(legs), valid_from, valid_until)


def _check_meters(legs: Sequence[Leg]) -> None:
    """Two caps on one meter would each be judged without the other: a cap for one call needs an id of its own."""
    meters = {leg.meter for leg in legs}
    if len(meters) < len(legs):
        ids = sorted({leg.cap for leg in legs if sum(leg.meter == other.meter for other in legs) > 1})
        raise ValueError(f"caps: {', '.join(ids)} is in the policy already for this call; allowed: another id")


def _values(rule: CapRule, identity: Identity, anonymous: bool) -> tuple[str | None, ...] | None:
    """The identity values that pick the meter; None where the cap does not apply for want of one."""
    values = tuple([identity.value(name) for name in rule.per])
    if None not in values:
        return values
    missing = [name for name, value in zip(rule.per, values, strict=True) if value is None]
    if rule.required or ("user" in missing and not anonymous):
        needs = ", ".join(missing)
        raise IdentityMissing(f"cap {rule.id!r} counts per {', '.join(rule.per)} and the call names no {needs}")
    return values if missing == ["user"] else None


def _names(model: str | None) -> tuple[str | None, ...]:
    """A model is matched as it is called, and without its host's prefix."""
    return (model,) if model is None or "/" not in model else (model, model.rpartition("/")[2])


def _matches(patterns: tuple[str, ...], values: tuple[str | None, ...]) -> bool:
    return any(value is not None and fnmatchcase(value, pattern) for pattern in patterns for value in values)


def _overridden(policy: Policy, plan: str | None, user: str) -> list[Cap]:
    """The plan's caps with the user's changes merged in, then the caps that only this user has."""
    base = list(policy.plans[plan].caps) if plan is not None else []
    changes = {change.id: change for change in policy.users[user].caps}
    merged = [changes.pop(cap.id).applied_to(cap) if cap.id in changes else cap for cap in base]
    own = [change for change in changes.values() if change.limit is not None]  # else it changes a cap of other plans
    return [*merged, *(change.applied_to(None) for change in own)]


def _compiled(cap: Cap, zone: str) -> Scoped:
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
    )
    return Scoped(rule, () if cap.match is None else cap.match.patterns)
