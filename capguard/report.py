"""What a report says: who spent what, what each plan earns, what caps refused, what those that watch would have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from capguard.readable import plain

WORST = 20
"""Users under water that a report names per plan; all of them are counted."""


@dataclass(frozen=True, slots=True)
class UnderWater:
    """A user who cost more in the report's time than the plan's price. `loss` is the difference; dollars."""

    user: str
    cost: Decimal
    loss: Decimal


@dataclass(frozen=True, slots=True)
class PlanEconomics:
    """What a plan earned. `customers` are the users with calls in the report's time, `revenue` is price x customers.

    `margin` is revenue - cost. The price is that of the policy in force; it is not prorated, so that a report over a
    billing period reads as it should. All of it is None where the plan has no price.
    """

    customers: int
    price: Decimal | None
    revenue: Decimal | None
    margin: Decimal | None
    under_water: int
    worst: tuple[UnderWater, ...]


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One group: calls that were booked, their tokens, `cost` (what the provider charges) and `billed`, in dollars.

    `open` calls are still held, at `held` dollars as they were reserved. `key` is None for calls that do not name the
    field, and for the total. `economics` is there in reports by plan.
    """

    key: str | None
    calls: int
    input_tokens: int
    output_tokens: int
    cost: Decimal
    billed: Decimal
    held: Decimal
    open: int
    economics: PlanEconomics | None = None


@dataclass(frozen=True, slots=True)
class ShadowRow:
    """What a cap that only watches (`dry_run`, `warn`) would have blocked: calls, their dollars, how many users."""

    cap: str
    action: str
    calls: int
    cost: Decimal
    users: int


@dataclass(frozen=True, slots=True)
class DenialRow:
    """How often a cap refused a call of one group. A call that two caps refuse counts for both.

    `key` is None where the cap does not count per the report's field: then nobody knows whom it refused.
    """

    cap: str
    key: str | None
    times: int


@dataclass(frozen=True, slots=True)
class Report:
    """The calls that were reserved within [since, until), by one field; dearest group first.

    `denials` are the refusals of those minutes, as far back as the backend keeps them; most first.
    """

    by: str
    since: datetime
    until: datetime
    rows: tuple[ReportRow, ...]
    total: ReportRow
    shadow: tuple[ShadowRow, ...]
    denials: tuple[DenialRow, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: amounts as text, times as ISO 8601."""
        return {
            "by": self.by,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "rows": [_plain(row) for row in self.rows],
            "total": _plain(self.total),
            "shadow": [_plain(row) for row in self.shadow],
            "denials": [_plain(row) for row in self.denials],
        }


def _plain(part: object) -> Any:
    """A part of a report as JSON has it."""
    if isinstance(part, Decimal):
        return plain(part)
    if isinstance(part, tuple):
        return [_plain(each) for each in part]
    fields: Mapping[str, Any] | None = getattr(part, "__dataclass_fields__", None)
    return part if fields is None else {name: _plain(getattr(part, name)) for name in fields}
