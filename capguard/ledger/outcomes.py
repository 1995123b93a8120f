"""What a backend answers. Values, never exceptions: only the shells raise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from capguard.ledger.caps import Amounts, Leg, MeterState

State = Literal["held", "settled", "released", "expired", "tombstone"]
RefusalReason = Literal["exhausted", "in_flight", "too_big"]


@dataclass(frozen=True, slots=True)
class Record:
    """A reservation as the ledger remembers it. `amounts` is what it holds (or held) on each of `legs`."""

    id: str
    fingerprint: str
    state: State
    model: str | None
    legs: tuple[Leg, ...]
    amounts: tuple[int, ...]
    held: Amounts
    expected: Amounts
    identity: Mapping[str, str]
    rates: Mapping[str, Any]
    facts: Mapping[str, Any]
    on_expiry: str
    created_ms: int
    expires_ms: int
    grace_ms: int
    retention_ms: int
    booked: Amounts = field(default_factory=dict)
    overrun: Amounts = field(default_factory=dict)
    entry: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """One leg that does not fit, and the meter that it met."""

    leg: Leg
    meter: MeterState

    @property
    def reason(self) -> RefusalReason:
        if self.leg.amount > self.leg.limit:
            return "too_big"
        return "exhausted" if self.meter.settled + self.leg.amount > self.leg.limit else "in_flight"


@dataclass(frozen=True, slots=True)
class Held:
    """The call may go on: this is its reservation. `passed` are the caps that told or steered but did not refuse."""

    record: Record
    passed: tuple[Refused, ...]
    chosen: int
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Denied:
    """Enforcing caps refuse; no meter moved. Legs of the chosen candidate, in policy order."""

    refused: tuple[Refused, ...]
    model: str | None
    now_ms: int


@dataclass(frozen=True, slots=True)
class Stale:
    """The command was built for another time. Build it again for `now_ms`."""

    now_ms: int


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The id is taken by a call with other arguments, or was released before this reserve arrived."""

    id: str
    state: State


@dataclass(frozen=True, slots=True)
class Settled:
    """The booking of a call. `late`: after its hold had ended. `conflict`: it was settled before, differently."""

    record: Record
    late: bool = False
    conflict: bool = False
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """The hold is gone, or there was none. `changed` is false where nothing moved."""

    id: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Extended:
    record: Record


@dataclass(frozen=True, slots=True)
class Ended:
    """The reservation is no longer held: nothing to extend."""

    record: Record


@dataclass(frozen=True, slots=True)
class Found:
    record: Record


@dataclass(frozen=True, slots=True)
class Unknown:
    """No reservation with this id is remembered."""

    id: str


@dataclass(frozen=True, slots=True)
class Meters:
    states: tuple[MeterState, ...]
    now_ms: int


class Line(NamedTuple):
    """One entry of the journal as it is stored."""

    seq: int
    at_ms: int
    kind: str
    id: str
    user: str | None
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Lines:
    lines: tuple[Line, ...]
    now_ms: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A meter that is not what its entries say."""

    meter: str
    period: int
    what: str
    journal: int
    stored: int


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification found. `complete` is false where entries are missing, and `why` says so."""

    differences: tuple[Difference, ...]
    entries: int
    meters: int
    open: int
    complete: bool = True
    why: str = ""


Outcome = (
    Held
    | Denied
    | Stale
    | Mismatch
    | Settled
    | Released
    | Extended
    | Ended
    | Found
    | Unknown
    | Meters
    | Lines
    | Verified
)
