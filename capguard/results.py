"""What the verbs of a Guard give: frozen values in the units and times that people read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, overload

from capguard.errors import Reason
from capguard.ledger import units
from capguard.ledger.caps import Leg, MeterState
from capguard.ledger.outcomes import Refused
from capguard.ledger.windows import FOREVER_MS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(ms: int) -> datetime | None:
    """Milliseconds since the epoch as an aware datetime; None for never."""
    return None if ms >= FOREVER_MS else _EPOCH + timedelta(milliseconds=ms)


def plain(amount: Decimal) -> str:
    """An amount as text for JSON: 0.000000001, never 1E-9."""
    return format(amount, "f")


@dataclass(frozen=True, slots=True)
class CapState:
    """One cap as one identity sees it: `limit`, `settled`, `held`, `remaining` in `unit`; money is Decimal dollars.

    `scope` names whom the cap counts. `fraction` is used / limit, 0.0 to above 1.0. `resets_at` is None for a lifetime.
    """

    id: str
    scope: Mapping[str, str | None]
    unit: str
    limit: Decimal
    settled: Decimal
    held: Decimal
    overrun: Decimal
    action: str
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
        resets_at = self.resets_at.isoformat() if self.resets_at else None
        words = {"id": self.id, "scope": dict(self.scope), "unit": self.unit, "action": self.action}
        return {**words, **amounts, "fraction": round(self.fraction, 6), "resets_at": resets_at}


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


@dataclass(frozen=True, slots=True)
class Decision:
    """What a cap check says. Truthy when the call may go on.

    `refused` are the caps that refuse, `passed` those that only warn, steer or watch and would not have had room.
    """

    allowed: bool
    model: str | None
    refused: tuple[Refusal, ...] = ()
    passed: tuple[Refusal, ...] = ()

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def downgraded(self) -> bool:
        return self.allowed and any(cap.action == "downgrade" for cap in self.passed)

    @property
    def warned(self) -> tuple[str, ...]:
        """Ids of the caps that warn."""
        return tuple(cap.id for cap in self.passed if cap.action == "warn")


@dataclass(frozen=True, slots=True)
class Reservation:
    """One call that may be made: what is held for it and until when. `held` and `expected` are dollars.

    `params` is what to pass to the provider: the model that was chosen, and the output limit under the caller's name.
    `booking` is what a settle in the same process needs; without it the ledger is asked.
    """

    id: str
    model: str | None
    params: Mapping[str, Any]
    held: Decimal
    expected: Decimal
    decision: Decision
    caps: tuple[str, ...]
    expires_at: datetime | None
    booking: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a call was booked. `cost` and `overrun` are dollars; `overrun` is what went beyond an enforcing limit.

    `late`: the hold had ended before. `conflict`: it had been settled before with other amounts, which stand.
    `flags` say where the amount comes from: `uncertain`, `unpriced`, `ceiling`, `estimated_output`, ...
    """

    id: str
    cost: Decimal
    overrun: Decimal
    late: bool
    conflict: bool
    entry_id: int
    flags: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True)
class GrantReceipt:
    """A grant that was made. `loosens` names the user's caps that will count less for it: those with `ignore_grants`.

    Where it is empty, the grant pays, but no cap takes notice of it.
    """

    id: str
    revision: int
    loosens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the append-only journal.

    `kind` is reserve, book, settle, release, expire or extend; `amounts` are what was held or booked, per unit.
    """

    seq: int
    at: datetime
    kind: str
    id: str
    user: str | None
    model: str | None
    amounts: Mapping[str, Decimal]
    caps: tuple[str, ...]
    flags: tuple[str, ...]
    body: Mapping[str, Any] = field(repr=False)

    @property
    def cost(self) -> Decimal:
        """Dollars that were held or booked."""
        return self.amounts.get("usd", Decimal(0))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: amounts as text, times as ISO 8601."""
        return {
            "seq": self.seq,
            "at": self.at.isoformat(),
            "kind": self.kind,
            "id": self.id,
            "user": self.user,
            "model": self.model,
            "amounts": {unit: plain(amount) for unit, amount in self.amounts.items()},
            "caps": list(self.caps),
            "flags": list(self.flags),
        }


@dataclass(frozen=True, slots=True)
class MeterDifference:
    """A meter whose stored sum is not what its entries say; parts of its unit."""

    meter: str
    period: datetime | None
    what: str
    journal: int
    stored: int


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found. No differences and `complete`: every meter is what its entries say."""

    differences: tuple[MeterDifference, ...]
    complete: bool
    why: str
    entries: int
    meters: int
    open: int

    def __bool__(self) -> bool:
        return self.complete and not self.differences

    def __iter__(self) -> Iterator[MeterDifference]:
        return iter(self.differences)


def cap_state(leg: Leg, meter: MeterState) -> CapState:
    """A leg and its meter as people read them."""
    return CapState(**_shown(leg, meter))


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


def refusal(miss: Refused, now_ms: int) -> Refusal:
    """A miss as people read it. `retry_after` is None where waiting cannot help."""
    leg = miss.leg
    reason: Reason = "throttled" if leg.action == "throttle" and miss.reason != "too_big" else miss.reason
    return Refusal(
        **_shown(leg, miss.meter),
        requested=units.shown(leg.unit, miss.amount),
        reason=reason,
        retry_after=_retry_after(miss.reason, miss.frees_ms or leg.ends, now_ms),
    )


IN_FLIGHT_RETRY_S = 1.0
"""Seconds after which a call that other calls crowd out may try again: a typical call's length."""


def _retry_after(reason: Reason, resets_ms: int, now_ms: int) -> float | None:
    if reason == "in_flight":
        return IN_FLIGHT_RETRY_S
    if reason == "too_big" or resets_ms >= FOREVER_MS:
        return None
    return max(0, resets_ms - now_ms) / 1000


def _shown(leg: Leg, meter: MeterState) -> dict[str, Any]:
    return {
        "id": leg.cap,
        "scope": json.loads(leg.scope),
        "unit": leg.unit,
        "limit": units.shown(leg.unit, leg.limit),
        "settled": units.shown(leg.unit, meter.settled),
        "held": units.shown(leg.unit, meter.held),
        "overrun": units.shown(leg.unit, meter.overrun),
        "action": leg.action,
        "resets_at": instant(leg.ends),
    }
