"""What each command says to the store, and what its answers mean as outcomes of the ledger."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from capguard.backends.redis import wire
from capguard.backends.redis.journal import Journals
from capguard.backends.redis.keys import row_of
from capguard.backends.redis.packing import Meters as Packed
from capguard.backends.redis.packing import encode, pack_amounts, pack_legs, pack_numbers
from capguard.backends.redis.store import MOST_TRIES, Store, Talk
from capguard.backends.redis.wire import Known, Reply
from capguard.errors import BackendUnavailable
from capguard.ledger.caps import Amounts, MeterState
from capguard.ledger.commands import (
    Check,
    Extend,
    Fetch,
    Look,
    Release,
    Reserve,
    Settle,
)
from capguard.ledger.decide import SWEEP_ROUNDS, made_of, record_of, replay
from capguard.ledger.entries import read_body as read_made
from capguard.ledger.judge import Verdict
from capguard.ledger.outcomes import (
    Crossing,
    Denied,
    Ended,
    Extended,
    Found,
    Held,
    Made,
    Meters,
    Mismatch,
    Outcome,
    Record,
    Refused,
    Released,
    Settled,
    Stale,
    Telling,
    Unknown,
)
from capguard.ledger.windows import FOREVER_MS

REMEMBERED = 16_384
"""Calls in flight whose meters this process knows, so that their settle takes one step."""

_NEVER_MADE = Made(None, (), {}, {}, {}, {}, {}, "release", 0, 0, 0)
_NOT_KNOWN = Known(0, _NEVER_MADE)


class Talks:
    """The two phases of a call: reserve, settle, release, extend, and looking at meters."""

    def __init__(self, store: Store, journals: Journals):
        self._store = store
        self._journals = journals
        self._known: OrderedDict[str, Known] = OrderedDict()

    def reserve(self, command: Reserve) -> Talk[Outcome]:
        return (yield from self._deciding(command, check=False))

    def check(self, command: Check) -> Talk[Outcome]:
        return (yield from self._deciding(command.reserve, check=True))

    def settle(self, command: Settle) -> Talk[Outcome]:
        amounts, dead_from = command.amounts, command.dead_from_ms
        numbers = FOREVER_MS if dead_from is None else dead_from, command.retention_ms, amounts.get("usd", 0)
        texts = encode(amounts), encode(command.facts)
        reply, known, crossed = yield from self._ending(
            "settle",
            command.id,
            lambda known, meters: [
                pack_amounts(meters.units, amounts),
                *texts,
                pack_numbers(*numbers, known is not None and meters.plain),
            ],
        )
        if reply[0] == b"unknown":
            yield from self._store.grow(reply[4])
            return with_crossed(crossed, Unknown(command.id, entry=reply[3]))
        self._known.pop(command.id, None)
        if reply[0] == b"known":
            record = yield from self._ended(command.id, wire.read_row(reply[3]))
            return with_crossed(crossed, Settled(record, conflict=record.booked != amounts, replayed=True))
        _, seq, _, was_late, shares, overrun, found, spare, was = reply
        made, before = known.made, wire.read_open(was)
        over = wire.amounts_of(wire.units_of(made), overrun) if overrun else {}
        record = Record(
            command.id, before.fingerprint, "settled", made, tuple(shares), before.expires_ms, seq, amounts, over
        )
        if spare < 0:
            yield from self._store.grow(spare)
        return with_crossed(crossed, Settled(record, late=bool(was_late), crossed=wire.crossings(found, made)))

    def release(self, command: Release) -> Talk[Outcome]:
        reply, _, crossed = yield from self._ending("release", command.id, lambda *_: [command.retention_ms])
        yield from self._store.grow(reply[4])
        return with_crossed(crossed, Released(command.id, changed=bool(reply[3])))

    def extend(self, command: Extend) -> Talk[Outcome]:
        ttl_ms = -1 if command.ttl_ms is None else command.ttl_ms
        reply, known, crossed = yield from self._ending(
            "extend", command.id, lambda known, meters: [ttl_ms, _whole(command, known, meters.units)]
        )
        said = reply[0]
        if said == b"unknown":
            return with_crossed(crossed, Unknown(command.id))
        if said == b"known":
            return with_crossed(crossed, Ended((yield from self._ended(command.id, wire.read_row(reply[3])))))
        if said == b"ended":
            return with_crossed(crossed, Ended((yield from self._open(command.id, reply[3]))))
        made = known.made
        if said == b"denied":
            refused = tuple(
                [Refused(made.legs[n - 1], amount, MeterState(*state), 0) for _, n, amount, *state, _ in reply[4]]
            )
            return with_crossed(crossed, Denied(refused, made.model, reply[3]))
        return with_crossed(crossed, Extended(wire.open_record(command.id, wire.read_open(reply[3]), made, None)))

    def look(self, command: Look) -> Talk[Outcome]:
        rows = tuple([leg.meter for leg in command.legs])
        reply, crossed = yield from self._swept("look", [pack_legs(command.legs)], rows=rows)
        states = tuple([MeterState(*state) for state in reply[4:]])
        return with_crossed(crossed, Meters(states, reply[3]))

    def fetch(self, command: Fetch) -> Talk[Outcome]:
        record = yield from self.record(command.id)
        return Unknown(command.id) if record is None or record.state == "tombstone" else Found(record)

    def record(self, id: str) -> Talk[Record | None]:
        """What is remembered of an id."""
        row = row_of(id)
        reply = yield from self._store.ask("fetch", [id, row, "", ""], own=row)
        if reply[4]:
            return (yield from self._open(id, reply[4]))
        return (yield from self._ended(id, wire.read_row(reply[5]))) if reply[5] else None

    def _deciding(self, command: Reserve, *, check: bool) -> Talk[Outcome]:
        row = row_of(command.id)
        args, rows = wire.reserve_args(command, row, check=check)
        reply, crossed = yield from self._swept("reserve", args, own=row, rows=tuple(rows))
        said = reply[0]
        if said == b"held":
            held, made = self._held(command, reply, check=check)
            if not check:
                if not command.book:
                    self._remember(command.id, Known(reply[1], made))
                if reply[10] < 0:
                    yield from self._store.grow(reply[10])
            return with_crossed(crossed, held)
        if said == b"denied":
            candidates = wire.on_runs(command.candidates, reply[6])
            refused = wire.misses(reply[5], candidates)
            return with_crossed(crossed, Denied(refused, candidates[reply[4]].model, reply[3]))
        if said == b"stale":
            return with_crossed(crossed, _stale(reply))
        if reply[3]:
            known = yield from self._open(command.id, reply[3])
        else:
            known = yield from self._ended(command.id, wire.read_row(reply[4]))
        return with_crossed(crossed, _replayed(known, command))

    def _held(self, command: Reserve, reply: Reply, *, check: bool) -> tuple[Held, Made]:
        _, seq, _, now_ms, chosen, output, shares, passed, crossed, runs, _ = reply
        if runs:
            command = command._replace(candidates=wire.on_runs(command.candidates, runs))
        candidate = command.candidates[chosen]
        limit = None if output < 0 else output
        held = candidate.held if limit is None or candidate.scale is None else candidate.scale.at(limit)
        verdict = Verdict(chosen, held, tuple(shares), wire.misses(passed, command.candidates), (), limit)
        made = made_of(command, verdict, now_ms)
        record = record_of(command, made, verdict.shares, entry=0 if check else seq)
        return Held(record, verdict.passed, chosen, output=limit, crossed=wire.crossings(crossed, made)), made

    def _ending(
        self, name: str, id: str, more: Callable[[Known | None, Packed], list[Any]]
    ) -> Talk[tuple[Reply, Known, list[Crossing]]]:
        """A step of the second phase. Where the call was made elsewhere, the store says first what was made."""
        row, told = row_of(id), []
        for _ in range(MOST_TRIES):
            known = self._known.get(id)
            args, meters = wire.record_args(id, row, known)
            reply, crossed = yield from self._swept(name, [*args, *more(known, meters)], own=row, rows=meters.keys)
            told += crossed
            if reply[0] != b"need":
                return reply, known or _NOT_KNOWN, told
            self._remember(id, Known(reply[3], read_made(wire.read_body(reply[4]))[0]))
        raise BackendUnavailable(f"the call {id!r} was made anew {MOST_TRIES} times meanwhile")

    def _swept(
        self, name: str, args: Sequence[Any], *, own: str = "", rows: tuple[str, ...] = ()
    ) -> Talk[tuple[Reply, list[Crossing]]]:
        """A step before which everything overdue has ended, and what that crossed."""
        crossed: list[Crossing] = []
        for number in range(SWEEP_ROUNDS + 1):
            reply = yield from self._store.ask(name, args, own=own, rows=rows, skip=number == SWEEP_ROUNDS)
            if reply[0] != b"due":
                break
            crossed += yield from self._sweep(reply[3:])
        return reply, crossed

    def _sweep(self, due: Reply) -> Talk[list[Crossing]]:
        args: list[Any] = []
        rows: list[str] = []
        found = []
        for id, was, body in zip(due[::3], due[1::3], due[2::3], strict=True):
            name, known = wire.text(id), None
            if was.startswith(b"h"):
                if not body:
                    raise self._store.lost("log")
                known = Known(wire.read_open(was).made, read_made(wire.read_body(body))[0])
            row = row_of(name)
            record, meters = wire.record_args(name, row, known)
            args += [*record, *wire.expiry_args(known, meters.units)]
            rows += [row, *meters.keys]
            found.append(known or _NOT_KNOWN)
        reply = yield from self._store.ask("sweep", args, rows=tuple(rows))
        crossed: list[Crossing] = []
        for which, *each in reply[3]:
            crossed += wire.crossings([each], found[which].made)
        if reply[4] < 0:
            yield from self._store.grow(reply[4])
        return crossed

    def _open(self, id: str, value: bytes) -> Talk[Record]:
        """A reservation that may still change, with the entries that say what was made and how it ended."""
        found = wire.read_open(value)
        lines = yield from self._journals.lines({found.made, found.entry})
        made = read_made(lines[found.made].body)[0] if found.made in lines else _NEVER_MADE
        if found.made in lines:
            self._remember(id, Known(found.made, made))
        ending = lines[found.entry].body if found.state != "held" and found.entry in lines else None
        return wire.open_record(id, found, made, ending)

    def _ended(self, id: str, row: wire.RowText) -> Talk[Record]:
        """A settled call. Where its entries were archived elsewhere, only its cost in dollars is remembered."""
        if row.state == "tombstone":
            return Record(id, "", "tombstone", _NEVER_MADE, (), 0, entry=0)
        lines = yield from self._journals.lines({row.made, row.entry})
        if row.made not in lines or row.entry not in lines:
            return Record(id, row.fingerprint, row.state, _NEVER_MADE, (), 0, row.entry, {"usd": row.usd})
        made, at_ms, ending = read_made(lines[row.made].body)[0], lines[row.entry].at_ms, lines[row.entry].body
        if row.made == row.entry:  # booked in the step that made it
            return Record(id, row.fingerprint, row.state, made, (), at_ms, row.entry, made.held)
        ended: tuple[Amounts, Amounts] = ending["amounts"], ending["overrun"]
        return Record(id, row.fingerprint, row.state, made, (), at_ms, row.entry, *ended)

    def _remember(self, id: str, known: Known) -> None:
        self._known[id] = known
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def with_crossed(crossed: Sequence[Crossing], outcome: Outcome) -> Outcome:
    """An outcome that also tells what was crossed on the way to it."""
    if crossed and isinstance(outcome, Telling):
        return outcome._replace(crossed=(*crossed, *outcome.crossed))
    return outcome


def _whole(command: Extend, known: Known | None, units: Sequence[str]) -> bytes:
    """What the hold is to be in every unit in which it was made."""
    if not command.amounts or known is None:
        return b""
    held = known.made.held
    whole = {unit: max(held[unit], command.amounts.get(unit, 0)) if held[unit] else 0 for unit in held}
    return pack_amounts(units, whole)


def _stale(reply: Reply) -> Stale:
    _, _, _, now_ms, profile, policy, document = reply
    return Stale(
        now_ms,
        wire.read_profile(profile) if profile else None,
        wire.read_policy(document) if policy >= 0 else None,
    )


def _replayed(known: Record, command: Reserve) -> Held | Mismatch:
    """As the ledger answers; of an ended call only the beginning of the fingerprint is remembered, of one that was made
    anew from the journal none."""
    asked = command.fingerprint
    if known.fingerprint[: wire.FINGERPRINT] in ("", asked[: wire.FINGERPRINT]):
        asked = known.fingerprint
    return replay(known, command._replace(fingerprint=asked))
