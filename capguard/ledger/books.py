"""What the decision needs of a store, inside one atomic step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from capguard.ledger.caps import Leg, MeterState, Move
from capguard.ledger.commands import Journal
from capguard.ledger.outcomes import Line, Record


class Books(Protocol):
    """Reads and writes within one atomic step: what is read here does not change before the step ends."""

    def meter(self, leg: Leg) -> MeterState:
        """The sums over all periods of the leg's meter from `since` on."""

    def open(self, legs: Sequence[Leg], amounts: Sequence[int], *, settled: bool) -> None:
        """Add an amount to the meter of every leg, making it where it is new: as held, or as settled at once."""

    def move(self, moves: Sequence[Move]) -> None:
        """Change meters that exist."""

    def reservation(self, id: str) -> Record | None: ...

    def add(self, record: Record, due_ms: int) -> None:
        """Remember a new reservation. Its entry was appended before: `record.entry`."""

    def update(self, record: Record, due_ms: int) -> None:
        """Remember a changed state, expiry, amounts or booking."""

    def due(self, now_ms: int, limit: int) -> Sequence[Record]:
        """Reservations whose due time has come, oldest first: holds to expire, ended ones to forget."""

    def forget(self, id: str) -> None: ...

    def append(self, at_ms: int, kind: str, id: str, user: str | None, body: Mapping[str, Any]) -> int:
        """Add one entry to the journal and return its number."""

    def entries(self, page: Journal) -> Iterable[Line]:
        """One page of the journal, oldest first."""

    def last_entry(self) -> int:
        """The number of the newest entry that was ever made."""

    def meters(self) -> Iterable[Move]:
        """Every meter that is stored."""

    def open_reservations(self) -> Iterable[Record]:
        """Every reservation that is held."""

    def deny(self, leg: Leg, minute_ms: int) -> None:
        """Count a refusal per meter and minute."""
