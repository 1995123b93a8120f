"""Reading the store: the journal, refusals, alerts, and the verification of all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from capguard.backends.redis import wire
from capguard.backends.redis.journal import CHUNK, Journals
from capguard.backends.redis.store import Store, Talk
from capguard.backends.redis.talks import Talks
from capguard.errors import BackendUnavailable
from capguard.ledger.caps import Move
from capguard.ledger.commands import Alerts, Journal, Refusals, Verify
from capguard.ledger.decide import MINUTE_MS
from capguard.ledger.entries import read_body as read_made
from capguard.ledger.outcomes import AlertRows, Lines, Outcome, Record, RefusalCounts
from capguard.ledger.verify import Rebuilding, sums_of

Row = TypeVar("Row")

_PER_MINUTE = 2**24
"""The score of a refusal is its minute times this, plus how often it was (lua/reserve.lua)."""

_BUCKETS = 16
"""Buckets that are read in one step."""


class Readings:
    """What can be read of one store."""

    def __init__(self, store: Store, journals: Journals, talks: Talks):
        self._store = store
        self._journals = journals
        self._talks = talks

    def journal(self, command: Journal) -> Talk[Outcome]:
        reply = yield from self._store.ask("fetch", ["", "", "", ""])
        return Lines((yield from self._journals.page(command)), reply[3])

    def refusals(self, command: Refusals) -> Talk[Outcome]:
        first = max(0, command.after[0])
        if command.since_ms is not None:
            first = max(first, (command.since_ms - MINUTE_MS) // MINUTE_MS * MINUTE_MS + MINUTE_MS)
        low = first // MINUTE_MS * _PER_MINUTE
        high = "+inf" if command.until_ms is None else f"({-(-command.until_ms // MINUTE_MS) * _PER_MINUTE}"
        rows = yield from self._rows("refused", low, high, wire.read_refusal)
        return RefusalCounts(tuple(sorted(row for row in rows if row.place > command.after)[: command.limit]))

    def alerts(self, command: Alerts) -> Talk[Outcome]:
        low = max(command.after[0], command.since_ms or 0)
        high = "+inf" if command.until_ms is None else f"({command.until_ms}"
        rows = yield from self._rows("alerts", low, high, wire.read_alert)
        return AlertRows(tuple(sorted(row for row in rows if row.place > command.after)[: command.limit]))

    def verify(self, _command: Verify) -> Talk[Outcome]:
        """Compare every bucket with the journal up to the entry at which it was read: calls may go on meanwhile."""
        first, at, meters, now_ms = yield from self._meters()
        reply = yield from self._store.ask("scan", ["1"])
        seq, reserved = reply[1], reply[4]
        rebuilding = Rebuilding() if first == seq else Rebuilding(lambda meter: at.get(meter, first), seq)
        yield from self._fold(rebuilding, seq)
        records = yield from self._held(reserved)
        return rebuilding.compared(sums_of(meters), records, seq, now_ms)

    def _meters(self) -> Talk[tuple[int, dict[str, int], list[Move], int]]:
        """Every meter, and with which entry it was read; the entry of the first reading before them."""
        size = 0
        while size != self._store.size or not size:  # a store that grew meanwhile is read again
            at: dict[str, int] = {}
            meters: list[Move] = []
            reply = yield from self._store.ask("fetch", ["", "", "", ""])
            first: int = reply[1]
            size = self._store.size
            for start in range(0, size, _BUCKETS):
                rows = tuple([f"{number:08x}" for number in range(start, min(start + _BUCKETS, size))])
                _, seq, _, now_ms, _, *buckets = yield from self._store.ask("scan", [""], rows=rows)
                found = [meter for fields in buckets for meter in wire.read_meters(fields, now_ms)]
                meters += found
                at |= dict.fromkeys((meter.meter for meter in found), seq)
        return first, at, meters, now_ms

    def _fold(self, rebuilding: Rebuilding, last: int) -> Talk[None]:
        after = 0
        while after < last:
            lines = yield from self._journals.page(Journal(after=after, limit=CHUNK))
            if not lines:
                return
            for line in lines:
                if line.seq <= last:
                    rebuilding.add(line)
            after = lines[-1].seq

    def _held(self, reserved: Sequence[Any]) -> Talk[list[Record]]:
        records = []
        for id, value in zip(reserved[::2], reserved[1::2], strict=True):
            if not id:  # which is there for good
                continue
            found = wire.read_open(value)
            if found.state != "held":
                continue
            lines = yield from self._journals.lines([found.made])
            if found.made not in lines:
                raise BackendUnavailable(f"the journal has lost entry {found.made}, which made a call that is open")
            made = read_made(lines[found.made].body)[0]
            records.append(wire.open_record(wire.text(id), found, made, None))
        return records

    def _rows(self, what: str, low: int, high: str, read: Callable[[bytes, bytes], Row]) -> Talk[list[Row]]:
        reply = yield from self._store.ask("range", [what, low, high])
        return [read(member, score) for member, score in zip(reply[3][::2], reply[3][1::2], strict=True)]
