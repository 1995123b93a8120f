"""The journal as people read it: its entries, and what a verification of the meters against them found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from capguard.readable import plain


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
