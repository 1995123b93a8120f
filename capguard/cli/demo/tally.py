"""What happened so far: amounts from the journal, read on from where it was left; refusals from the workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from capguard.cli import show
from capguard.cli.demo.traffic import PLANS, Ask
from capguard.cli.demo.worker import BLOCKED
from capguard.guard import Guard
from capguard.journal import Entry

ZERO = Decimal(0)


@dataclass(slots=True)
class Row:
    """One plan. `spent` and `held` are dollars."""

    plan: str
    users: set[str] = field(default_factory=set)
    calls: int = 0
    spent: Decimal = ZERO
    held: Decimal = ZERO
    blocked: int = 0
    downgraded: int = 0
    warned: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: amounts as text."""
        counts = {name: getattr(self, name) for name in ("calls", "blocked", "downgraded", "warned")}
        return {
            "plan": self.plan,
            "users": len(self.users),
            "spent": show.plain(self.spent),
            "held": show.plain(self.held),
            **counts,
        }


@dataclass(slots=True)
class Allowed:
    """One call that was let through: what it holds now, what it was booked at, in dollars."""

    downgraded: bool
    held: Decimal
    spent: Decimal = ZERO


class Tally:
    """The demo so far, per plan and in all."""

    def __init__(self, guard: Guard, todo: Sequence[Ask], outcomes: Sequence[int]):
        self.rows = {plan: Row(plan) for plan in PLANS}
        self.allowed: dict[str, Allowed] = {}
        self.blocked: list[Ask] = []
        self._guard = guard
        self._todo = todo
        self._outcomes = outcomes
        self._by_id = {ask.id: ask for ask in todo}
        self._counted: set[int] = set()
        self._seq = 0

    def catch_up(self) -> None:
        """Read what is new."""
        for entry in self._guard.entries(after=self._seq):
            self._seq = entry.seq
            if entry.kind == "reserve":
                self._reserved(entry)
            else:
                self._ended(entry)
        for number, outcome in enumerate(self._outcomes):
            if outcome == BLOCKED and number not in self._counted:
                self._counted.add(number)
                self._refused(self._todo[number])

    def total(self, name: str) -> Any:
        """A column of the rows, added up."""
        return sum((getattr(row, name) for row in self.rows.values()), start=0)

    def users(self) -> list[tuple[str, str]]:
        """Every user seen, with the plan."""
        return sorted((user, row.plan) for row in self.rows.values() for user in row.users)

    def _row(self, ask: Ask) -> Row:
        row = self.rows[ask.plan]
        row.users.add(ask.user)
        return row

    def _reserved(self, entry: Entry) -> None:
        row = self._row(self._by_id[entry.id])
        told = {flag.partition(":")[0] for flag in entry.flags}
        self.allowed[entry.id] = Allowed("downgrade" in told, entry.cost)
        row.calls += 1
        row.held += entry.cost
        row.downgraded += "downgrade" in told
        row.warned += "warn" in told

    def _ended(self, entry: Entry) -> None:
        """A settle, and whatever else ends a hold: what was booked takes the place of what was held."""
        row, call = self._row(self._by_id[entry.id]), self.allowed[entry.id]
        row.held -= call.held
        row.spent += entry.cost - call.spent
        call.held, call.spent = ZERO, entry.cost

    def _refused(self, ask: Ask) -> None:
        row = self._row(ask)
        row.calls += 1
        row.blocked += 1
        self.blocked.append(ask)
