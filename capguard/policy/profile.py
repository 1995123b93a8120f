"""What was said of one user at run time: the plan, changes of caps, grants. Kept by the backend, read here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capguard.ledger.outcomes import Revised
from capguard.ledger.windows import FOREVER_MS
from capguard.policy.cap import Cap, CapChange
from capguard.policy.globs import any_matches, model_names


@dataclass(frozen=True, slots=True)
class TimedChange:
    """A change of a cap, or an additional cap, in force before `until_ms`."""

    change: Cap | CapChange
    until_ms: int


@dataclass(frozen=True, slots=True)
class Credit:
    """A grant as the ledger keeps it: `amount` in parts of `unit`, good for some features and models or for all.

    `used_up` ones had nothing left when the user was granted something the last time; they are carried no further.
    """

    id: str
    amount: int
    unit: str
    until_ms: int
    priority: int
    granted_ms: int
    features: tuple[str, ...]
    models: tuple[str, ...]
    revoked: bool
    used_up: bool = False

    def pays_for(self, feature: str | None, model: str | None) -> bool:
        """Whether this grant may pay for a call of `feature` to `model`."""
        good_for_feature = not self.features or any_matches(self.features, (feature,))
        return good_for_feature and (not self.models or any_matches(self.models, model_names(model)))


@dataclass(frozen=True, slots=True, eq=False)
class UserProfile:
    """One revision of a user's profile. Grants stand in the order in which they pay."""

    revision: int = 0
    plan: str | None = None
    changes: tuple[TimedChange, ...] = ()
    grants: tuple[Credit, ...] = ()

    @classmethod
    def of(cls, revised: Revised) -> UserProfile:
        """From what the backend keeps."""
        body = revised.body
        changes = [
            TimedChange((Cap if each.get("additional") else CapChange)(**each["cap"]), _until(each))
            for each in body.get("overrides", ())
        ]
        used_up = frozenset(body.get("used_up", ()))
        credits = [_credit(grant, grant["id"] in used_up) for grant in body.get("grants", ())]
        grants = sorted(credits, key=lambda g: (g.priority, g.until_ms, g.granted_ms, g.id))
        return cls(revised.revision, body.get("plan"), tuple(changes), tuple(grants))

    def changes_at(self, now_ms: int) -> tuple[Cap | CapChange, ...]:
        """The changes of caps, and the additional caps, that are in force."""
        return tuple([timed.change for timed in self.changes if now_ms < timed.until_ms])

    def credits_at(self, now_ms: int) -> tuple[Credit, ...]:
        """The grants that can pay, in their order: lower priority first, then the sooner expiry, then the older."""
        return tuple([grant for grant in self.lasting_at(now_ms) if not grant.used_up])

    def lasting_at(self, now_ms: int) -> tuple[Credit, ...]:
        """The grants that have not ended, those that are used up among them: they pay again if money comes back."""
        return tuple([grant for grant in self.grants if now_ms < grant.until_ms and not grant.revoked])

    def span(self, now_ms: int) -> tuple[int, int]:
        """From the last end of one of its temporary parts to the next: what is built on this profile now holds then."""
        ends = [change.until_ms for change in self.changes] + [grant.until_ms for grant in self.grants]
        past, next = [end for end in ends if end <= now_ms], [end for end in ends if now_ms < end]
        return max(past, default=0), min(next, default=FOREVER_MS)


NO_PROFILE = UserProfile()


def _credit(grant: Mapping[str, Any], used_up: bool) -> Credit:
    return Credit(
        id=grant["id"],
        amount=grant["amount"],
        unit=grant["unit"],
        until_ms=_until(grant),
        priority=grant["priority"],
        granted_ms=grant["granted_ms"],
        features=tuple(grant.get("features", ())),
        models=tuple(grant.get("models", ())),
        revoked="revoked_ms" in grant,
        used_up=used_up,
    )


def _until(part: Mapping[str, Any]) -> int:
    until: int | None = part.get("until_ms")
    return FOREVER_MS if until is None else until
