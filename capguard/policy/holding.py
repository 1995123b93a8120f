"""Which caps hold for an identity, and where each of them comes from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from capguard.identity import Identity
from capguard.ledger import units
from capguard.ledger.windows import FOREVER_MS
from capguard.policy.document import Policy
from capguard.policy.profile import UserProfile
from capguard.policy.resolve import Rulebook, Scoped

Origin = Literal["plan", "user", "global", "override"]


@dataclass(frozen=True, slots=True)
class Holding:
    """A cap that holds: `limit` is in `unit`. `origin` is what had the last word on it.

    `plan`, `user` (the policy's table of that user), `global`, or `override`, in force `until` a time or for good.
    """

    id: str
    origin: Origin
    limit: Decimal
    unit: str
    per: tuple[str, ...]
    window: str
    action: str
    match: tuple[tuple[str, tuple[str, ...]], ...]
    until: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: the limit as text, times as ISO 8601."""
        return {
            "id": self.id,
            "origin": self.origin,
            "limit": format(self.limit, "f"),
            "unit": self.unit,
            "per": list(self.per),
            "window": self.window,
            "action": self.action,
            "match": {name: list(patterns) for name, patterns in self.match},
            "until": self.until.isoformat() if self.until else None,
        }


def holding(policy: Policy, identity: Identity, profile: UserProfile, now_ms: int) -> tuple[Holding, ...]:
    """Every cap that may apply to a call of `identity`, in policy order, whatever fields the call must name for it.

    Raises IdentityMissing for a plan that does not exist where there is no default.
    """
    rulebook = Rulebook(policy)
    plan = rulebook.standing(identity, profile).plan
    changes = profile.changes_at(now_ms)
    ends = {timed.change.id: timed.until_ms for timed in profile.changes if now_ms < timed.until_ms}
    origins = _origins(policy, identity.user) | dict.fromkeys(ends, "override")
    return tuple(
        _held(scoped, origins.get(scoped.rule.id, "plan"), ends.get(scoped.rule.id, FOREVER_MS))
        for scoped in rulebook.caps(plan, identity.user, (), changes)
    )


def _origins(policy: Policy, user: str | None) -> dict[str, Origin]:
    """The caps that are not the plan's, by id: no id stands both in a plan and among the caps for everybody."""
    own = policy.users.get(user) if user is not None else None
    origins: dict[str, Origin] = {cap.id: "global" for cap in policy.caps}
    return origins | {change.id: "user" for change in (own.caps if own is not None else ())}


def _held(scoped: Scoped, origin: Origin, until_ms: int) -> Holding:
    rule = scoped.rule
    return Holding(
        id=rule.id,
        origin=origin,
        limit=units.shown(rule.unit, rule.limit),
        unit=rule.unit,
        per=rule.per,
        window=rule.window.canonical,
        action=rule.action,
        match=scoped.match,
        until=None if until_ms >= FOREVER_MS else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=until_ms),
    )
