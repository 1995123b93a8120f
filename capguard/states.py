"""Where caps and what pays stand: frozen values in the units and times that people read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, overload

from capguard.ledger import units
from capguard.ledger.caps import Leg, MeterState
from capguard.readable import instant, plain


@dataclass(frozen=True, slots=True)
class CapState:
    """One cap as one identity sees it: `limit`, `settled`, `held`, `remaining` in `unit`; money is Decimal dollars.

    `scope` names whom the cap counts. `fraction` is used / limit, 0.0 to above 1.0. `since` is when what the window
    counts began: the start of the period, of a rolling window its length ago; a cap that was put in force later without
    backfill counts what came after that. `resets_at` is when it starts afresh. Both are None for a lifetime.
    """

    id: str
    scope: Mapping[str, str | None]
    unit: str
    limit: Decimal
    settled: Decimal
    held: Decimal
    overrun: Decimal
    action: str
    since: datetime | None
    resets_at: datetime | None

    @property
    def remaining(self) -> Decimal:
        left = max(Decimal(0), self.limit - self.settled - self.held)
        return units.shown(self.unit, units.parse(self.unit, left))

    @property
    def fraction(self) -> float:
        used = self.settled + self.held
        return float(used / self.limit) if self.limit else float(used > 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: amounts as text, times as ISO 8601."""
        amounts = {name: plain(getattr(self, name)) for name in ("limit", "settled", "held", "remaining", "overrun")}
        times = {
            name: moment.isoformat() if moment else None
            for name, moment in (("since", self.since), ("resets_at", self.resets_at))
        }
        words = {"id": self.id, "scope": dict(self.scope), "unit": self.unit, "action": self.action}
        return {**words, **amounts, "fraction": round(self.fraction, 6), **times}


@dataclass(frozen=True, slots=True)
class SourceState:
    """What pays before it counts as overage: the plan's allowance (`included`), or a `grant`. Amounts in `unit`.

    `expires_at` is when it lapses: a grant for good, an allowance to be issued afresh. None for never.
    """

    id: str
    kind: str
    unit: str
    amount: Decimal
    settled: Decimal
    held: Decimal
    expires_at: datetime | None

    @property
    def remaining(self) -> Decimal:
        return max(Decimal(0), self.amount - self.settled - self.held)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: amounts as text, times as ISO 8601."""
        amounts = {name: plain(getattr(self, name)) for name in ("amount", "settled", "held", "remaining")}
        expires_at = self.expires_at.isoformat() if self.expires_at else None
        return {"id": self.id, "kind": self.kind, "unit": self.unit, **amounts, "expires_at": expires_at}


class CapStates(Sequence[CapState]):
    """Caps in policy order that also answer `caps["monthly"]`."""

    __slots__ = ("_caps",)

    def __init__(self, caps: Sequence[CapState] = ()):
        self._caps = tuple(caps)

    @overload
    def __getitem__(self, key: int | str) -> CapState: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[CapState]: ...
    def __getitem__(self, key: int | str | slice) -> CapState | Sequence[CapState]:
        if not isinstance(key, str):
            return self._caps[key]
        for cap in self._caps:
            if cap.id == key:
                return cap
        raise KeyError(f"no cap {key!r} applies; these do: {', '.join(cap.id for cap in self._caps) or 'none'}")

    def __len__(self) -> int:
        return len(self._caps)

    def __contains__(self, key: object) -> bool:
        return any(key in (cap.id, cap) for cap in self._caps)

    def __eq__(self, other: object) -> bool:
        """Equal are the same caps, standing the same, in the same order."""
        return self._caps == other._caps if isinstance(other, CapStates) else NotImplemented

    def __hash__(self) -> int:
        """By their ids: a scope is a mapping, which has no hash."""
        return hash(tuple(cap.id for cap in self._caps))

    def __repr__(self) -> str:
        return f"CapStates({list(self._caps)!r})"


@dataclass(frozen=True, slots=True)
class Status:
    """Where an identity stands: its plan, every cap that applies to it, and what pays for it.

    `included` is what is left of the plan's allowance in this period, `grants` pay next, in their order.
    """

    identity: Mapping[str, str]
    plan: str | None
    caps: CapStates
    included: SourceState | None
    grants: tuple[SourceState, ...]
    as_of: datetime

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: amounts as text, times as ISO 8601."""
        return {
            "identity": dict(self.identity),
            "plan": self.plan,
            "caps": [cap.to_dict() for cap in self.caps],
            "included": self.included.to_dict() if self.included is not None else None,
            "grants": [grant.to_dict() for grant in self.grants],
            "as_of": self.as_of.isoformat(),
        }


def cap_state(leg: Leg, meter: MeterState, since_ms: int = 0) -> CapState:
    """A leg and its meter as people read them; of a cap that came in later, since then."""
    return CapState(**shown(leg._replace(since=max(leg.since, since_ms)), meter))


def source_state(leg: Leg, meter: MeterState) -> SourceState:
    """A source and its meter as people read them."""
    return SourceState(
        id=leg.cap,
        kind=leg.action,
        unit=leg.unit,
        amount=units.shown(leg.unit, leg.limit),
        settled=units.shown(leg.unit, meter.settled),
        held=units.shown(leg.unit, meter.held),
        expires_at=instant(leg.ends),
    )


def shown(leg: Leg, meter: MeterState) -> dict[str, Any]:
    """The fields of a CapState."""
    return {
        "id": leg.cap,
        "scope": json.loads(leg.scope),
        "unit": leg.unit,
        "limit": units.shown(leg.unit, leg.limit),
        "settled": units.shown(leg.unit, meter.settled),
        "held": units.shown(leg.unit, meter.held),
        "overrun": units.shown(leg.unit, meter.overrun),
        "action": leg.action,
        "since": instant(leg.since) if leg.since else None,
        "resets_at": instant(leg.ends),
    }
