"""The ledger in this process's memory: for tests, for single processes, and as the model for other backends."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from capguard.backends.base import Clock, Plain, system_clock
from capguard.ledger.caps import Leg, MeterState, Move
from capguard.ledger.commands import NOTES, NOTES_KEPT_MS, Alerts, Command, Journal, Refusals
from capguard.ledger.decide import MINUTE_MS, carry_out
from capguard.ledger.outcomes import NEVER, Alert, Line, Outcome, Record, RefusalCount, Revised

_EMPTY = MeterState(0, 0, 0)


WEAK = ("the ledger is in memory: it ends with this process, and no other process sees it",)


class MemoryBackend(Plain):
    """`memory://`: every Guard on it has a ledger of its own, which ends with the process."""

    url = "memory://"

    def __init__(self, clock: Clock = system_clock):
        self._clock = clock
        self._lock = threading.Lock()
        self._books = MemoryBooks()
        self._last_ms = 0

    def execute(self, command: Command) -> Outcome:
        with self._lock:
            self._last_ms = max(self._last_ms, self._clock())
            return carry_out(self._books, command, self._last_ms)

    async def aexecute(self, command: Command) -> Outcome:
        return self.execute(command)

    def answer_within(self, seconds: float) -> None:
        """It answers at once."""

    def seen(self) -> None:
        """Nothing outlives the process."""

    def recall(self, seen: Sequence[Any]) -> None:
        """Nothing outlives the process."""

    def weaknesses(self) -> Sequence[str]:
        return WEAK

    def close(self) -> None:
        """Nothing to give back."""


class MemoryBooks:
    """The books of one ledger. Not safe by itself: its backend holds a lock around every command."""

    def __init__(self) -> None:
        self._meters: dict[str, dict[int, list[int]]] = {}
        self._gone: dict[tuple[str, int], int] = {}
        self._closing: list[tuple[int, str, int]] = []
        self._records: dict[str, tuple[Record, int]] = {}
        self._due: list[tuple[int, str]] = []
        self._lines: list[Line] = []
        self._profiles: dict[str, Revised] = {}
        self._alerts: dict[tuple[str, int, int], int] = {}
        self._policies: list[Revised] = []
        self._notes: dict[str, dict[str, tuple[int, Mapping[str, Any]]]] = {}
        self.denials: dict[tuple[str, int], int] = {}
        self._named: dict[str, tuple[str, str]] = {}  # the cap and scope of meters that refused or crossed a threshold

    def meter(self, leg: Leg) -> MeterState:
        periods = self._meters.get(leg.meter)
        if periods is None:
            return _EMPTY
        if not leg.rolling:
            sums = periods.get(leg.period)
            return _EMPTY if sums is None else MeterState(*sums)
        live = [sums for period, sums in periods.items() if leg.since <= period <= leg.period]
        return MeterState(*(sum(column) for column in zip(*live, strict=True))) if live else _EMPTY

    def periods(self, leg: Leg) -> Iterable[tuple[int, int]]:
        periods = self._meters.get(leg.meter, {})
        return sorted((period, sums[0]) for period, sums in periods.items() if leg.since <= period <= leg.period)

    def open(self, legs: Sequence[Leg], shares: Sequence[int], *, settled: bool) -> Sequence[int]:
        column, after = 0 if settled else 1, []
        for leg, share in zip(legs, shares, strict=True):
            sums = self._meters.get(leg.meter, {}).get(leg.period) or self._opened(leg)
            sums[column] += share
            after.append(sums[0])
        return after

    def _opened(self, leg: Leg) -> list[int]:
        sums = self._meters.setdefault(leg.meter, {})[leg.period] = [0, 0, 0]
        self.keep(leg, leg.gone_ms)
        return sums

    def newest(self, meter: str) -> tuple[int, int] | None:
        period = max(self._meters.get(meter, ()), default=None)
        return None if period is None else (period, self._gone[meter, period])

    def keep(self, leg: Leg, gone_ms: int) -> None:
        key = leg.meter, leg.period
        if gone_ms > self._gone.get(key, 0):
            self._gone[key] = gone_ms
            heapq.heappush(self._closing, (gone_ms, *key))

    def close(self, now_ms: int, limit: int) -> None:
        while limit and self._closing and self._closing[0][0] <= now_ms:
            gone_ms, meter, period = heapq.heappop(self._closing)
            if self._gone.get((meter, period)) == gone_ms:  # else it was kept for longer
                limit -= 1
                del self._gone[meter, period]
                del self._meters[meter][period]
                if not self._meters[meter]:
                    del self._meters[meter]

    def alert(self, leg: Leg, ppm: int, now_ms: int) -> bool:
        self._named[leg.meter] = leg.cap, leg.scope
        key = leg.meter, leg.period, ppm
        first = key not in self._alerts
        self._alerts.setdefault(key, now_ms)
        return first

    def move(self, moves: Sequence[Move]) -> Sequence[int]:
        after = []
        for move in moves:
            sums = self._meters[move.meter][move.period]
            sums[0] += move.settled
            sums[1] += move.held
            sums[2] += move.overrun
            after.append(sums[0])
        return after

    def reservation(self, id: str) -> Record | None:
        known = self._records.get(id)
        return None if known is None else known[0]

    def add(self, record: Record, due_ms: int) -> None:
        self._records[record.id] = record, due_ms
        heapq.heappush(self._due, (due_ms, record.id))

    update = add

    def due(self, now_ms: int, limit: int) -> Sequence[Record]:
        found: dict[str, Record] = {}  # by id: an extension that moves no time leaves the same time twice
        while self._due and self._due[0][0] <= now_ms and len(found) < limit:
            due_ms, id = heapq.heappop(self._due)
            known = self._records.get(id)
            if known is not None and known[1] == due_ms:  # else the time was moved and stands further on
                found[id] = known[0]
        return list(found.values())

    def forget(self, id: str) -> None:
        del self._records[id]

    def append(self, at_ms: int, kind: str, id: str, user: str | None, body: Mapping[str, Any]) -> int:
        seq = len(self._lines) + 1
        self._lines.append(Line(seq, at_ms, kind, id, user, body))
        return seq

    def profile_revision(self, user: str) -> int:
        return self._profiles[user].revision if user in self._profiles else 0

    def policy_revision(self) -> int:
        return len(self._policies)

    def profile(self, user: str) -> Revised:
        return self._profiles.get(user, NEVER)

    def put_profile(self, user: str, profile: Revised) -> None:
        self._profiles[user] = profile

    def policy(self, revision: int | None) -> Revised:
        wanted = len(self._policies) if revision is None else revision
        return self._policies[wanted - 1] if 0 < wanted <= len(self._policies) else NEVER

    def add_policy(self, policy: Revised) -> None:
        self._policies.append(policy)

    def entries(self, page: Journal) -> Iterable[Line]:
        return islice((line for line in islice(self._lines, page.after, None) if _in_page(line, page)), page.limit)

    def last_entry(self) -> int:
        return len(self._lines)

    def meters(self, now_ms: int) -> Iterator[Move]:
        for meter, periods in self._meters.items():
            for period, sums in periods.items():
                if now_ms < self._gone[meter, period]:
                    yield Move(meter, period, *sums)

    def open_reservations(self) -> Iterator[Record]:
        return (record for record, _ in self._records.values() if record.state == "held")

    def deny(self, leg: Leg, minute_ms: int) -> None:
        key = leg.meter, minute_ms
        self.denials[key] = self.denials.get(key, 0) + 1
        self._named[leg.meter] = leg.cap, leg.scope

    def put_note(self, topic: str, writer: str, note: Mapping[str, Any], now_ms: int) -> None:
        notes = self._notes.setdefault(topic, {})
        notes[writer] = now_ms, note
        newest = sorted(notes.items(), key=lambda each: (-each[1][0], each[0]))[:NOTES]
        self._notes[topic] = {name: each for name, each in newest if each[0] > now_ms - NOTES_KEPT_MS}

    def notes(self, topic: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
        return [(writer, note) for writer, (_, note) in self._notes.get(topic, {}).items()]

    def refusals(self, page: Refusals) -> Iterable[RefusalCount]:
        rows = (
            RefusalCount(minute, meter, *self._named[meter], count)
            for (meter, minute), count in self.denials.items()
            if (page.since_ms is None or minute > page.since_ms - MINUTE_MS)
            and (page.until_ms is None or minute < page.until_ms)
        )
        return sorted(row for row in rows if row.place > page.after)[: page.limit]

    def alerts(self, page: Alerts) -> Iterable[Alert]:
        rows = (
            Alert(at_ms, meter, period, ppm, *self._named[meter])
            for (meter, period, ppm), at_ms in self._alerts.items()
            if (page.since_ms is None or at_ms >= page.since_ms) and (page.until_ms is None or at_ms < page.until_ms)
        )
        return sorted(row for row in rows if row.place > page.after)[: page.limit]


def _in_page(line: Line, page: Journal) -> bool:
    return (
        (page.user is None or line.user == page.user)
        and (page.since_ms is None or line.at_ms >= page.since_ms)
        and (page.until_ms is None or line.at_ms < page.until_ms)
    )
