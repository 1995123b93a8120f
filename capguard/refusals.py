"""A cap that did not let a call pass as it was: what it needed, and why there was no room."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from capguard.errors import Reason
from capguard.ledger import units
from capguard.ledger.outcomes import Refused
from capguard.ledger.windows import FOREVER_MS
from capguard.states import CapState, shown

IN_FLIGHT_RETRY_S = 1.0
"""Seconds after which a call that other calls crowd out may try again: a typical call's length."""


@dataclass(frozen=True, slots=True)
class Refusal(CapState):
    """A cap that did not let a call pass as it was: what it needed, and why there was no room."""

    requested: Decimal
    reason: Reason
    retry_after: float | None

    @property
    def retryable(self) -> bool:
        """Whether the same call may fit soon: others hold the room or the rate, it is not spent."""
        return self.reason in ("in_flight", "throttled")

    def explain(self) -> str:
        """One sentence for a log or a developer. It names amounts: not for an end user's eyes."""
        who = ", ".join(f"{name}={value or 'anonymous'}" for name, value in self.scope.items()) or "everybody"
        spent = f"{self.settled} settled + {self.held} held of {self.limit} {self.unit}"
        until = f", resets at {self.resets_at.isoformat()}" if self.resets_at else ""
        return f"{self.reason}, needs {self.requested} with {spent} for {who}{until}"


def refusal(miss: Refused, now_ms: int) -> Refusal:
    """A miss as people read it. `retry_after` is None where waiting cannot help."""
    leg = miss.leg
    reason: Reason = "throttled" if leg.action == "throttle" and miss.reason != "too_big" else miss.reason
    return Refusal(
        **shown(leg, miss.meter),
        requested=units.shown(leg.unit, miss.amount),
        reason=reason,
        retry_after=_retry_after(miss.reason, miss.frees_ms or leg.ends, now_ms),
    )


def _retry_after(reason: Reason, resets_ms: int, now_ms: int) -> float | None:
    if reason == "in_flight":
        return IN_FLIGHT_RETRY_S
    if reason == "too_big" or resets_ms >= FOREVER_MS:
        return None
    return max(0, resets_ms - now_ms) / 1000
