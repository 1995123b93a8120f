"""What a backend can be asked to do. A command is complete: it needs no policy, no price, no clock but the backend's.

Each is carried out atomically, all of it or nothing, and each has an outcome in `outcomes.py`. Both are tuples: frozen,
and made many times for every call, where a frozen dataclass costs fifteen times as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from capguard.ledger.caps import Amounts, Leg
from capguard.ledger.ids import RETENTION_MS, minted_ms

OnExpiry = Literal["charge_expected", "release"]


class Scale(NamedTuple):
    """How a call's amounts grow with its output: `base` without any, `rates` in thousandths of a part per token."""

    output: int
    base: Amounts
    rates: Amounts

    def at(self, output: int) -> Amounts:
        """The amounts with an output limit of so many tokens, rounded up."""
        return {unit: base - (-output * self.rates[unit] // 1000) for unit, base in self.base.items()}


class Candidate(NamedTuple):
    """One model that may serve the call: what it holds, what it is expected to cost, on which meters, and who pays.

    `sources` pay in their order. `scale` is there where the output limit may be lowered.
    """

    model: str | None
    held: Amounts
    expected: Amounts
    legs: tuple[Leg, ...]
    rates: Mapping[str, Any]
    sources: tuple[Leg, ...] = ()
    scale: Scale | None = None


class Offline(NamedTuple):
    """What may be admitted while the backend is away: millionths of each meter's limit, and nano-dollars in all."""

    share_ppm: int
    allowance: int


class Reserve(NamedTuple):
    """Hold a candidate against every cap that applies, or refuse. With `book`, settle it in the same step.

    `offline` is for whoever stands before the backend: None where the call may not be made while that is away.

    With `waits`, a refusal by throttle caps alone is not counted as one: the caller waits for room.

    The legs were built for periods that all contain [valid_from, valid_until), from the revisions `profile` of the
    user's profile and `policy` of the published policy (None: the process has its own). Where one of them has moved on,
    the backend answers `Stale`.
    """

    id: str
    fingerprint: str
    candidates: tuple[Candidate, ...]
    identity: Mapping[str, str]
    valid_from: int
    valid_until: int
    ttl_ms: int
    grace_ms: int
    retention_ms: int
    on_expiry: OnExpiry
    facts: Mapping[str, Any]
    book: bool = False
    profile: int = 0
    policy: int | None = None
    thresholds: tuple[int, ...] = ()
    waits: bool = False
    offline: Offline | None = None


class Check(NamedTuple):
    """Judge a reserve without holding anything."""

    reserve: Reserve


class Settle(NamedTuple):
    """Replace the hold by what the call really cost.

    Where nothing is remembered of an id that was minted longer ago than `retention_ms`, an entry keeps what was to be
    booked, a dead letter, and no meter moves.
    """

    id: str
    amounts: Amounts
    facts: Mapping[str, Any]
    retention_ms: int = RETENTION_MS

    @property
    def dead_from_ms(self) -> int | None:
        """From when on it is a dead letter, unless its id is remembered; None where nobody knows how old the id is."""
        made_ms = minted_ms(self.id)
        return None if made_ms is None else made_ms + self.retention_ms


class Release(NamedTuple):
    """Drop the hold: nothing was billed. An unknown id leaves a tombstone that refuses a late reserve."""

    id: str
    retention_ms: int


class Extend(NamedTuple):
    """Lengthen or raise a hold. Both are totals: `ttl_ms` counts from the reserve, `amounts` is the whole hold."""

    id: str
    ttl_ms: int | None
    amounts: Amounts | None


class Fetch(NamedTuple):
    """Read one reservation."""

    id: str


class Look(NamedTuple):
    """Read the meters behind these legs."""

    legs: tuple[Leg, ...]


class Steer(NamedTuple):
    """Change one user's profile: grant, revoke, override, clear_override, assign. The journal keeps `by` and `why`."""

    kind: str
    user: str
    change: Mapping[str, Any]
    by: str | None = None
    why: str | None = None


class Profile(NamedTuple):
    """Read one user's profile."""

    user: str


class Backfill(NamedTuple):
    """What meters that are not there yet shall show as settled, by the entries since `since_ms` up to number `last`."""

    last: int
    since_ms: int
    legs: tuple[Leg, ...]
    shares: tuple[int, ...]


class Publish(NamedTuple):
    """Make a policy the one in force, if the one in force is still revision `base` (None: whichever it is).

    `since` is kept with it: from when on caps count that were not there from the beginning, by the keys of their kinds.
    With a `backfill` that a newer entry has overtaken, the backend answers `Stale`.
    """

    document: Mapping[str, Any]
    base: int | None
    by: str | None = None
    why: str | None = None
    backfill: Backfill | None = None
    since: Mapping[str, int] = {}


class PolicyInForce(NamedTuple):
    """Read the published policy: the one in force, or an earlier revision."""

    revision: int | None = None


class Journal(NamedTuple):
    """Read one page of the journal, oldest first: entries after number `after`, of `user`, within [since, until)."""

    after: int = 0
    user: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    limit: int = 500


class Refusals(NamedTuple):
    """Read one page of the refusal counts, oldest first: minutes within [since, until), after `after` (a row's place).

    A minute is counted whole, so one that `since` falls into is there.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    limit: int = 500
    after: tuple[int, str] = (-1, "")


class Alerts(NamedTuple):
    """Read one page of the thresholds that were crossed within [since, until), oldest first, after `after`."""

    since_ms: int | None = None
    until_ms: int | None = None
    limit: int = 500
    after: tuple[int, str, int, int] = (-1, "", 0, 0)


class Share(NamedTuple):
    """Put a note where all processes find it, in place of this writer's last one, and read those of the others.

    A note is no part of the books: it is kept for `NOTES_KEPT_MS`, and the newest `NOTES` of a topic are.
    """

    topic: str
    writer: str
    note: Mapping[str, Any]


NOTES = 64
NOTES_KEPT_MS = 7 * 24 * 3600 * 1000


class Verify(NamedTuple):
    """Rebuild every meter from the journal and compare."""


Command = (
    Reserve
    | Check
    | Settle
    | Release
    | Extend
    | Fetch
    | Look
    | Steer
    | Profile
    | Publish
    | PolicyInForce
    | Journal
    | Refusals
    | Alerts
    | Share
    | Verify
)

READS = (Fetch, Profile, PolicyInForce, Journal, Refusals, Alerts, Verify)
"""Commands that change nothing, not even by sweeping: a store may serve them beside its writers."""
