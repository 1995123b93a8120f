"""What a backend answers. Values, never exceptions: only the shells raise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from capguard.ledger.caps import Amounts, Leg, MeterState

State = Literal["held", "settled", "released", "expired", "tombstone"]
RefusalReason = Literal["exhausted", "in_flight", "too_big"]
_NOTHING: Amounts = {}


class Made(NamedTuple):
    """What never changes of a reservation: the body of the entry that made it."""

    model: str | None
    legs: tuple[Leg, ...]
    held: Amounts
    expected: Amounts
    identity: Mapping[str, str]
    rates: Mapping[str, Any]
    facts: Mapping[str, Any]
    on_expiry: str
    created_ms: int
    grace_ms: int
    retention_ms: int


class Record(NamedTuple):
    """A reservation as the ledger remembers it. `amounts` is what it holds (or held) on each leg of `made`."""

    id: str
    fingerprint: str
    state: State
    made: Made
    amounts: tuple[int, ...]
    expires_ms: int
    entry: int
    booked: Amounts = _NOTHING
    overrun: Amounts = _NOTHING

    @property
    def user(self) -> str | None:
        return self.made.identity.get("user")


class Refused(NamedTuple):
    """One leg that does not fit: the amount that was to go on it, and the meter that it met."""

    leg: Leg
    amount: int
    meter: MeterState

    @property
    def reason(self) -> RefusalReason:
        if self.amount > self.leg.limit:
            return "too_big"
        return "exhausted" if self.meter.settled + self.amount > self.leg.limit else "in_flight"


class Held(NamedTuple):
    """The call may go on: this is its reservation. `passed` are the caps that told or steered but did not refuse."""

    record: Record
    passed: tuple[Refused, ...]
    chosen: int
    replayed: bool = False


class Denied(NamedTuple):
    """Enforcing caps refuse; no meter moved. Legs of the chosen candidate, in policy order."""

    refused: tuple[Refused, ...]
    model: str | None
    now_ms: int


class Stale(NamedTuple):
    """The command was built for another time. Build it again for `now_ms`."""

    now_ms: int


class Mismatch(NamedTuple):
    """The id is taken by a call with other arguments, or was released before this reserve arrived."""

    id: str
    state: State


class Settled(NamedTuple):
    """The booking of a call. `late`: after its hold had ended. `conflict`: it was settled before, differently."""

    record: Record
    late: bool = False
    conflict: bool = False
    replayed: bool = False


class Released(NamedTuple):
    """The hold is gone, or there was none. `changed` is false where nothing moved."""

    id: str
    changed: bool


class Extended(NamedTuple):
    record: Record


class Ended(NamedTuple):
    """The reservation is no longer held: nothing to extend."""

    record: Record


class Found(NamedTuple):
    record: Record


class Unknown(NamedTuple):
    """No reservation with this id is remembered."""

    id: str


class Meters(NamedTuple):
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


class Lines(NamedTuple):
    lines: tuple[Line, ...]
    now_ms: int


class Difference(NamedTuple):
    """A meter that is not what its entries say."""

    meter: str
    period: int
    what: str
    journal: int
    stored: int


class Verified(NamedTuple):
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
