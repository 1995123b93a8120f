"""What the verbs of one call, and a grant, give: frozen values in the units and times that people read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from capguard.refusals import Refusal


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
    `repeated`: the id was known already, and this is what it was given then; it may be settled since. `booking` is what
    a settle in the same process needs; without it the ledger is asked.
    """

    id: str
    model: str | None
    params: Mapping[str, Any]
    held: Decimal
    expected: Decimal
    decision: Decision
    caps: tuple[str, ...]
    expires_at: datetime | None
    repeated: bool = field(default=False, compare=False)
    booking: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a call was booked. `cost` and `overrun` are dollars; `overrun` is what went beyond an enforcing limit.

    `late`: the hold had ended before. `conflict`: it had been settled before with other amounts, which stand.
    `flags` say where the amount comes from: `uncertain`, `unpriced`, `ceiling`, `estimated_output`, ... With `kept`
    the backend is away: the booking waits on this host, on its disk unless `durable` is false, and `entry_id` is 0.
    """

    id: str
    cost: Decimal
    overrun: Decimal
    late: bool
    conflict: bool
    entry_id: int
    flags: tuple[str, ...] = ()
    durable: bool = True


@dataclass(frozen=True, slots=True)
class GrantReceipt:
    """A grant that was made. `loosens` names the user's caps that will count less for it: those with `ignore_grants`.

    Where it is empty, the grant pays, but no cap takes notice of it.
    """

    id: str
    revision: int
    loosens: tuple[str, ...]
