"""What a store holds, made anew from its journal alone: meters, calls in flight, ids, profiles, policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from capguard.ledger.caps import KEPT_MS, Amounts, Leg
from capguard.ledger.ids import RETENTION_MS
from capguard.ledger.outcomes import NEVER, Line, Revised, State
from capguard.ledger.revisions import changed
from capguard.ledger.verify import Key, gone_of, moves_of

_FORGETS = 10_000
"""Entries after which what is over is dropped."""


@dataclass(slots=True)
class Meter:
    """What is settled, held and overrun in one period, and when it is gone."""

    sums: list[int] = field(default_factory=lambda: [0, 0, 0])
    gone_ms: int = 0
    rolling: bool = False
    idle: bool = False


@dataclass(slots=True)
class Call:
    """A call that may still change: the entry that made it, on which meters, and what it has on each of them."""

    made: int
    meters: tuple[Leg, ...]
    shares: list[int]
    retention_ms: int
    grace_ms: int
    expires_ms: int
    entry: int
    state: State = "held"
    ended_ms: int = 0

    @property
    def due_ms(self) -> int:
        """When a hold ends by itself, or when the id of a call that has ended is forgotten."""
        return self.expires_ms + self.grace_ms if self.state == "held" else self.ended_ms + self.retention_ms

    @property
    def keys(self) -> list[Key]:
        return [(leg.meter, leg.period) for leg in self.meters]


class Ended(NamedTuple):
    """An id that is remembered although its call changes no more."""

    state: State
    forgotten_ms: int
    made: int
    entry: int
    booked: Amounts


class Rebuild:
    """Takes in every entry of one ledger from the first one on, each once.

    Not in the journal are the fingerprints of ids, which thresholds were told, how often each cap has refused, and the
    ids that were released before they were reserved.
    """

    def __init__(self) -> None:
        self.meters: dict[Key, Meter] = {}
        self.calls: dict[str, Call] = {}
        self.ended: dict[str, Ended] = {}
        self.profiles: dict[str, Revised] = {}
        self.policies: dict[int, Revised] = {}
        self.last, self.at_ms = 0, 0

    def add(self, line: Line) -> None:
        """The next entry."""
        self.last, self.at_ms = line.seq, max(self.at_ms, line.at_ms)
        for move in moves_of(line):
            meter = self._meter((move.meter, move.period))
            for index, amount in enumerate(move[2:]):
                meter.sums[index] += amount
        for key, gone_ms in gone_of(line):
            self._meter(key).gone_ms = max(self._meter(key).gone_ms, gone_ms)
        if (take := _TAKES.get(line.kind)) is not None:
            take(self, line)
        elif line.user is not None and "change" in line.body:
            self._steered(line.user, line)
        if line.seq % _FORGETS == 0:
            self.forget()

    def forget(self) -> None:
        """Drop what is over: a store has dropped it too, or will."""
        now_ms = self.at_ms
        self.meters = {key: meter for key, meter in self.meters.items() if meter.gone_ms > now_ms}
        self.calls = {id: call for id, call in self.calls.items() if call.state == "held" or call.due_ms > now_ms}
        self.ended = {id: each for id, each in self.ended.items() if each.forgotten_ms > now_ms}

    def _meter(self, key: Key) -> Meter:
        return self.meters.setdefault(key, Meter())

    def _made(self, line: Line) -> None:
        body = line.body
        meters = tuple([Leg(*leg) for leg in (*body["legs"], *body["sources"])])
        for leg in meters:
            meter = self._meter((leg.meter, leg.period))
            meter.rolling, meter.idle = leg.rolling, leg.idle_ms > 0
        if line.kind == "book":
            self._used(meters, line.at_ms)
            self._ended(line, line.seq, body["retention_ms"], body["held"])
            return
        shares, expires_ms = list(body["shares"]), body["created_ms"] + body["ttl_ms"]
        kept = body["retention_ms"], body["grace_ms"], expires_ms
        self.calls[line.id] = call = Call(line.seq, meters, shares, *kept, line.seq)
        self._used(meters, line.at_ms, call.due_ms)

    def _extended(self, line: Line) -> None:
        if (call := self.calls.get(line.id)) is not None:
            call.expires_ms = line.body["expires_ms"]
            self._used(call.meters, line.at_ms, call.due_ms)
            held = {(meter, period): held for meter, period, _, held, _ in line.body["moves"]}
            call.shares = [share + held.get(key, 0) for share, key in zip(call.shares, call.keys, strict=True)]

    def _settled(self, line: Line) -> None:
        if (call := self.calls.pop(line.id, None)) is not None:
            if call.state == "held":
                self._used(call.meters, line.at_ms)
            self._ended(line, call.made, call.retention_ms, line.body["amounts"])

    def _undone(self, line: Line) -> None:
        """Expired or released: what is booked for it now."""
        if (call := self.calls.get(line.id)) is None:
            return
        booked = {(meter, period): settled for meter, period, settled, *_ in line.body["moves"]}
        call.shares = [booked.get(key, 0) if line.kind == "expire" else 0 for key in call.keys]
        call.state = "expired" if line.kind == "expire" else "released"
        call.entry, call.ended_ms = line.seq, line.at_ms

    def _dead(self, line: Line) -> None:
        self.ended[line.id] = Ended("tombstone", line.at_ms + RETENTION_MS, 0, 0, {})

    def _filled(self, line: Line) -> None:
        for move, rolling in zip(line.body["moves"], line.body["rolling"], strict=True):
            self._meter((move[0], move[1])).rolling = rolling

    def _used(self, meters: tuple[Leg, ...], at_ms: int, until_ms: int = 0) -> None:
        """An idle meter's run is on for so long again, and until then in any case."""
        for leg in meters:
            if leg.idle_ms:
                meter = self._meter((leg.meter, leg.period))
                meter.gone_ms = max(meter.gone_ms, max(at_ms + leg.idle_ms, until_ms) + KEPT_MS)

    def _ended(self, line: Line, made: int, retention_ms: int, booked: Amounts) -> None:
        self.ended[line.id] = Ended("settled", line.at_ms + retention_ms, made, line.seq, booked)

    def _published(self, line: Line) -> None:
        body = line.body
        revision = body["revision"]
        if "document" in body:
            said = body["by"], body["why"], body.get("since", {})
            self.policies[revision] = Revised(revision, body["document"], line.at_ms, *said)

    def _steered(self, user: str, line: Line) -> None:
        before = self.profiles.get(user, NEVER)
        body = changed(line.kind, before.body, line.body["change"], line.at_ms)
        self.profiles[user] = Revised(line.body["revision"], body if isinstance(body, dict) else before.body)


_TAKES: Mapping[str, Callable[[Rebuild, Line], None]] = {
    "reserve": Rebuild._made,
    "book": Rebuild._made,
    "extend": Rebuild._extended,
    "settle": Rebuild._settled,
    "expire": Rebuild._undone,
    "release": Rebuild._undone,
    "dead_letter": Rebuild._dead,
    "backfill": Rebuild._filled,
    "publish": Rebuild._published,
}
