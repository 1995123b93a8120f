"""A cap as the ledger knows it, the meter behind it, and the leg that one call puts on that meter."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Literal, NamedTuple

from capguard.ledger.windows import FOREVER_MS, Window

Action = Literal["block", "downgrade", "clamp", "throttle", "warn", "dry_run"]

ENFORCING: frozenset[str] = frozenset({"block", "clamp", "throttle"})
"""Actions that refuse. `downgrade` steers, `warn` and `dry_run` tell."""


@dataclass(frozen=True, slots=True)
class CapRule:
    """One cap of a policy, compiled: the limit in integer parts of its unit, the window parsed."""

    id: str
    unit: str
    limit: int
    per: tuple[str, ...]
    window: Window
    action: Action = "block"
    otherwise: Literal["pass", "block"] = "pass"
    to: str | None = None
    overage_only: bool = False
    ignore_grants: bool = False
    required: bool = False
    public: bool = False
    min_output: int = 0
    max_wait_ms: int = 0
    idle_ms: int = 0

    @property
    def kind(self) -> tuple[object, ...]:
        """What makes a meter this cap's, whoever is counted: changing it begins a new one."""
        return self.id, self.unit, self.per, self.window.canonical, self.overage_only, self.ignore_grants

    @property
    def kind_key(self) -> str:
        """The kind in 19 characters."""
        return short_digest(json.dumps(self.kind))

    def meter(self, values: Sequence[str | None]) -> str:
        """The key of this cap's meter for one identity, `values` in the order of `per` (None: anonymous)."""
        return meter_key(
            self.id, self.unit, self.per, self.window.canonical, self.overage_only, self.ignore_grants, tuple(values)
        )

    def scope(self, values: Sequence[str | None]) -> str:
        """Whom this cap counts, as JSON text: kept beside the meter for people to read, never a key."""
        return scope_text(self.per, tuple(values))


@lru_cache(maxsize=16384)
def meter_key(
    cap: str,
    unit: str,
    per: tuple[str, ...],
    window: str,
    overage_only: bool,
    ignore_grants: bool,
    values: tuple[str | None, ...],
) -> str:
    """The meter's identity in 24 characters: 8 hex digits, by which a store may place it, and 16 of base64url.

    The first part is of those who are counted alone: the meters of one identity are found together. JSON delimits
    every part, so no two lists of names collide however they look when joined. The limit, the action and `match` are no
    part of it: changing them keeps the spend.
    """
    parts = json.dumps([cap, unit, per, window, overage_only, ignore_grants, values], separators=(",", ":"))
    place = json.dumps([per, values], separators=(",", ":"))
    return blake2b(place.encode(), digest_size=4).hexdigest() + _base64(parts, 12)


def short_digest(text: str) -> str:
    """A digest in 19 characters: 8 hex digits, and 11 of base64url."""
    return blake2b(text.encode(), digest_size=4).hexdigest() + _base64(text, 8)


def _base64(text: str, size: int) -> str:
    return urlsafe_b64encode(blake2b(text.encode(), digest_size=size).digest()).rstrip(b"=").decode()


@lru_cache(maxsize=16384)
def scope_text(per: tuple[str, ...], values: tuple[str | None, ...]) -> str:
    return json.dumps(dict(zip(per, values, strict=True)), ensure_ascii=False, separators=(",", ":"))


KEPT_MS = 48 * 3600 * 1000
"""How long a store keeps a meter after its period: twice the longest hold, so that none can still stand on it."""


class Leg(NamedTuple):
    """One cap as it holds for one call: the meter, and the period that is on. The call's amount in `unit` goes on it.

    A rolling window counts every period from `since` on. `ends` is when what is counted now is gone. `step` is the
    candidate that a refusing downgrade cap names, -1 for none. With `idle_ms`, the period is that of the run that is
    on, which ends when the meter was not used for so long. A source is a leg too, with the action `included` or
    `grant`: its limit is what it can pay, until it `ends`.
    """

    meter: str
    period: int
    limit: int
    since: int
    ends: int
    cap: str
    unit: str
    action: str
    scope: str
    step: int = -1
    otherwise: str = "pass"
    overage_only: bool = False
    ignore_grants: bool = False
    min_output: int = 0
    max_wait_ms: int = 0
    idle_ms: int = 0

    @property
    def enforcing(self) -> bool:
        return self.action in ENFORCING

    @property
    def rolling(self) -> bool:
        return self.since != self.period

    @property
    def gone_ms(self) -> int:
        """When the meter's period is closed for good: nothing is booked on it any more, and a store drops it."""
        return min(FOREVER_MS, self.ends + (0 if self.rolling else KEPT_MS))


class Move(NamedTuple):
    """A change of one meter. The journal keeps every one, so that meters can be rebuilt from it."""

    meter: str
    period: int
    settled: int
    held: int
    overrun: int


def opening(leg: Leg, amount: int, *, settled: bool) -> Move:
    """What a reserve does to the meter of one leg."""
    return Move(leg.meter, leg.period, amount if settled else 0, 0 if settled else amount, 0)


class MeterState(NamedTuple):
    """What a meter shows. For a rolling window `settled` and `held` are the sums of all buckets that still count."""

    settled: int
    held: int
    overrun: int

    @property
    def used(self) -> int:
        return self.settled + self.held


Amounts = Mapping[str, int]
"""An amount in every unit in which one call is counted, in integer parts."""
