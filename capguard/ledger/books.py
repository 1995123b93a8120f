"""What the decision needs of a store, inside one atomic step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from capguard.ledger.caps import Leg, MeterState, Move
from capguard.ledger.commands import Alerts, Journal, Refusals
from capguard.ledger.outcomes import Alert, Line, Record, RefusalCount, Revised


class Books(Protocol):
    """Reads and writes within one atomic step: what is read here does not change before the step ends."""

    def meter(self, leg: Leg) -> MeterState:
        """The sums over all periods of the leg's meter from `since` on."""

    def periods(self, leg: Leg) -> Iterable[tuple[int, int]]:
        """What is settled in each period of the leg's meter from `since` on, oldest first."""

    def open(self, legs: Sequence[Leg], shares: Sequence[int], *, settled: bool) -> Sequence[int]:
        """Add an amount to the meter of every leg, making it where it is new: as held, or as settled at once.

        What is settled on each now.
        """

    def move(self, moves: Sequence[Move]) -> Sequence[int]:
        """Change meters that exist. What is settled on each now."""

    def newest(self, meter: str) -> tuple[int, int] | None:
        """The period of a meter that began last, and when it is gone."""

    def keep(self, leg: Leg, gone_ms: int) -> None:
        """Let the leg's meter be gone no sooner than that."""

    def close(self, now_ms: int, limit: int) -> None:
        """Drop meters that are gone by now: up to `limit` of them in this step."""

    def alert(self, leg: Leg, ppm: int, now_ms: int) -> bool:
        """Remember that a meter has crossed a threshold. Whether it is the first time in its period."""

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

    def profile_revision(self, user: str) -> int:
        """The revision of a user's profile, 0 where there is none."""

    def policy_revision(self) -> int:
        """The revision of the policy in force, 0 where there is none."""

    def profile(self, user: str) -> Revised:
        """The profile of a user; revision 0 with an empty body where there is none."""

    def put_profile(self, user: str, profile: Revised) -> None: ...

    def policy(self, revision: int | None) -> Revised:
        """A published policy, the newest for None; revision 0 with an empty body where there is none."""

    def add_policy(self, policy: Revised) -> None: ...

    def entries(self, page: Journal) -> Iterable[Line]:
        """One page of the journal, oldest first."""

    def last_entry(self) -> int:
        """The number of the newest entry that was ever made."""

    def meters(self, now_ms: int) -> Iterable[Move]:
        """Every meter that is not gone."""

    def open_reservations(self) -> Iterable[Record]:
        """Every reservation that is held."""

    def deny(self, leg: Leg, minute_ms: int) -> None:
        """Count a refusal per meter and minute."""

    def refusals(self, page: Refusals) -> Iterable[RefusalCount]:
        """One page of what `deny` counted, by minute, then meter."""

    def put_note(self, topic: str, writer: str, note: Mapping[str, Any], now_ms: int) -> None:
        """Keep a note in place of the writer's last one, and drop those that are too old or too many."""

    def notes(self, topic: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
        """Writers and their notes, the newest first."""

    def alerts(self, page: Alerts) -> Iterable[Alert]:
        """One page of what `alert` remembered, oldest first."""
