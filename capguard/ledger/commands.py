"""What a backend can be asked to do. A command is complete: it needs no policy, no price, no clock but the backend's.

Each is carried out atomically, all of it or nothing, and each has an outcome in `outcomes.py`. Both are tuples: frozen,
and made many times for every call, where a frozen dataclass costs fifteen times as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from capguard.ledger.caps import Amounts, Leg

OnExpiry = Literal["charge_expected", "release"]


class Candidate(NamedTuple):
    """One model that may serve the call: what it holds, what it is expected to cost, and on which meters."""

    model: str | None
    held: Amounts
    expected: Amounts
    legs: tuple[Leg, ...]
    rates: Mapping[str, Any]


class Reserve(NamedTuple):
    """Hold a candidate against every cap that applies, or refuse. With `book`, settle it in the same step.

    The legs were built for periods that all contain [valid_from, valid_until): outside, the backend answers `Stale`.
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


class Check(NamedTuple):
    """Judge a reserve without holding anything."""

    reserve: Reserve


class Settle(NamedTuple):
    """Replace the hold by what the call really cost."""

    id: str
    amounts: Amounts
    facts: Mapping[str, Any]


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


class Journal(NamedTuple):
    """Read one page of the journal, oldest first: entries after number `after`, of `user`, within [since, until)."""

    after: int = 0
    user: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    limit: int = 500


class Verify(NamedTuple):
    """Rebuild every meter from the journal and compare."""


Command = Reserve | Check | Settle | Release | Extend | Fetch | Look | Journal | Verify

READS = (Fetch, Journal, Verify)
"""Commands that change nothing, not even by sweeping: a store may serve them beside its writers."""
