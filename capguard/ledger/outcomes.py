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
    sources: tuple[Leg, ...] = ()
    thresholds: tuple[int, ...] = ()

    @property
    def meters(self) -> tuple[Leg, ...]:
        """Every meter that this call stands on: its caps', then its sources'."""
        return self.legs + self.sources if self.sources else self.legs


class Record(NamedTuple):
    """A reservation as the ledger remembers it.

    `shares` is what it holds, or what is booked for it once it has ended, on each of `made.meters`; of a settled call
    that is read again nothing is known there any more, and `expires_ms` is when it was settled.
    """

    id: str
    fingerprint: str
    state: State
    made: Made
    shares: tuple[int, ...]
    expires_ms: int
    entry: int
    booked: Amounts = _NOTHING
    overrun: Amounts = _NOTHING

    @property
    def user(self) -> str | None:
        return self.made.identity.get("user")


class Refused(NamedTuple):
    """One leg that does not fit: the amount that was to go on it, and the meter that it met.

    `frees_ms` is when a throttle cap will have room, 0 where that may be at any time.
    """

    leg: Leg
    amount: int
    meter: MeterState
    frees_ms: int = 0

    @property
    def reason(self) -> RefusalReason:
        if self.amount > self.leg.limit:
            return "too_big"
        return "exhausted" if self.meter.settled + self.amount > self.leg.limit else "in_flight"


class Crossing(NamedTuple):
    """A booking that brought a meter to a share of its limit, in millionths, for the first time in its period.

    `identity` is that of the call that was booked.
    """

    leg: Leg
    ppm: int
    settled: int
    identity: Mapping[str, str]


class Held(NamedTuple):
    """The call may go on: this is its reservation.

    `passed` are the caps that told, steered or clamped but did not refuse, `output` the limit that a clamp left.
    """

    record: Record
    passed: tuple[Refused, ...]
    chosen: int
    replayed: bool = False
    output: int | None = None
    crossed: tuple[Crossing, ...] = ()


class Denied(NamedTuple):
    """Enforcing caps refuse; no meter moved. Legs of the chosen candidate, in policy order."""

    refused: tuple[Refused, ...]
    model: str | None
    now_ms: int
    crossed: tuple[Crossing, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether waiting may help: only throttle caps refuse, and the call could fit under each."""
        return all(miss.leg.action == "throttle" and miss.reason != "too_big" for miss in self.refused)

    @property
    def meters(self) -> tuple[str, ...]:
        return tuple([miss.leg.meter for miss in self.refused])

    @property
    def frees_ms(self) -> int:
        """When every refusing throttle cap will have room, as far as it is known."""
        return max([miss.frees_ms for miss in self.refused])

    @property
    def max_wait_ms(self) -> int:
        return min([miss.leg.max_wait_ms for miss in self.refused])


class Revised(NamedTuple):
    """One revision of a user's profile or of the published policy.

    `since` has the caps that a later revision than the first brought in, each with the time from which it counts.
    """

    revision: int
    body: Mapping[str, Any]
    at_ms: int = 0
    by: str | None = None
    why: str | None = None
    since: Mapping[str, int] = {}


NEVER = Revised(0, {})
"""What stands for a profile or policy that nobody has written yet."""


class Stale(NamedTuple):
    """The command was built for another time or from what has changed since. Build it again from these.

    `profile` and `policy` are there where the command's revision of them is not the one in force.
    """

    now_ms: int
    profile: Revised | None = None
    policy: Revised | None = None
    crossed: tuple[Crossing, ...] = ()


class Mismatch(NamedTuple):
    """The id is taken by a call with other arguments, or was released before this reserve arrived."""

    id: str
    state: State
    crossed: tuple[Crossing, ...] = ()


class Settled(NamedTuple):
    """The booking of a call. `late`: after its hold had ended. `conflict`: it was settled before, differently."""

    record: Record
    late: bool = False
    conflict: bool = False
    replayed: bool = False
    crossed: tuple[Crossing, ...] = ()


class Kept(NamedTuple):
    """The backend is away: what books this call waits on this host until it is back. `durable`: on its disk."""

    id: str
    amounts: Amounts
    facts: Mapping[str, Any]
    durable: bool


class Steered(NamedTuple):
    """A profile as it stands after a change; `replayed` where the change was made before."""

    profile: Revised
    replayed: bool = False


class Published(NamedTuple):
    """A policy as it is in force; `replayed` where it was already."""

    policy: Revised
    replayed: bool = False


class Superseded(NamedTuple):
    """The policy in force is another revision than the one that was to be replaced."""

    revision: int


class Nothing(NamedTuple):
    """What was asked for is not there."""


class Released(NamedTuple):
    """The hold is gone, or there was none. `changed` is false where nothing moved."""

    id: str
    changed: bool
    crossed: tuple[Crossing, ...] = ()


class Extended(NamedTuple):
    record: Record
    crossed: tuple[Crossing, ...] = ()


class Ended(NamedTuple):
    """The reservation is no longer held: nothing to extend."""

    record: Record
    crossed: tuple[Crossing, ...] = ()


class Found(NamedTuple):
    record: Record


class Unknown(NamedTuple):
    """No reservation, or grant, with this id is remembered.

    `entry` is the dead letter that a settle has left in the journal, 0 where there is none.
    """

    id: str
    crossed: tuple[Crossing, ...] = ()
    entry: int = 0


class Meters(NamedTuple):
    states: tuple[MeterState, ...]
    now_ms: int
    crossed: tuple[Crossing, ...] = ()


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


class RefusalCount(NamedTuple):
    """How often one cap refused one identity within one minute. `scope` is JSON: whom the cap counts."""

    minute_ms: int
    meter: str
    cap: str
    scope: str
    times: int

    @property
    def place(self) -> tuple[int, str]:
        """Where the next page of `Refusals` begins."""
        return self.minute_ms, self.meter


class RefusalCounts(NamedTuple):
    rows: tuple[RefusalCount, ...]


class Alert(NamedTuple):
    """A threshold, in millionths of a limit, that a meter crossed for the first time in its period."""

    at_ms: int
    meter: str
    period: int
    ppm: int
    cap: str
    scope: str

    @property
    def place(self) -> tuple[int, str, int, int]:
        """Where the next page of `Alerts` begins."""
        return self.at_ms, self.meter, self.period, self.ppm


class AlertRows(NamedTuple):
    rows: tuple[Alert, ...]


class Shared(NamedTuple):
    """The notes of other writers on a topic, the newest first."""

    notes: tuple[Mapping[str, Any], ...]


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


Telling = Held | Denied | Stale | Mismatch | Settled | Released | Extended | Ended | Unknown | Meters
"""Outcomes of steps that end what is overdue first, and tell in `crossed` what that and they themselves crossed."""

Outcome = (
    Held
    | Denied
    | Stale
    | Mismatch
    | Settled
    | Kept
    | Released
    | Extended
    | Ended
    | Found
    | Unknown
    | Meters
    | Steered
    | Published
    | Superseded
    | Nothing
    | Lines
    | RefusalCounts
    | AlertRows
    | Shared
    | Verified
)
