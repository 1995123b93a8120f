"""What each command says to the store, and what its answers mean as outcomes of the ledger."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from capguard.backends.redis import wire
from capguard.backends.redis.journal import Journals
from capguard.backends.redis.keys import row_of
from capguard.backends.redis.store import Store, Talk
from capguard.backends.redis.wire import Reply, encode
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

REMEMBERED = 16_384
"""Calls in flight whose meters this process knows, so that their settle takes one step."""

_NEVER_MADE = Made(None, (), {}, {}, {}, {}, {}, "release", 0, 0, 0)


class Talks:
    """The two phases of a call: reserve, settle, release, extend, and looking at meters."""

    def __init__(self, store: Store, journals: Journals):
        self._store = store
        self._journals = journals
        self._made: OrderedDict[str, Made] = OrderedDict()

    def reserve(self, command: Reserve) -> Talk[Outcome]:
        return (yield from self._deciding(command, check=False))

    def check(self, command: Check) -> Talk[Outcome]:
        return (yield from self._deciding(command.reserve, check=True))

    def settle(self, command: Settle) -> Talk[Outcome]:
        row, made = row_of(command.id), self._made.pop(command.id, None)
        late = {**command.facts, "late": True}
        said = encode(command.amounts), encode(command.facts), encode(late), "" if made is None else "1"
        dead_from = "" if command.dead_from_ms is None else command.dead_from_ms
        args = [command.id, row, *said, dead_from, command.retention_ms]
        reply, crossed = yield from self._ending("settle", command.id, made, args)
        if reply[0] == b"known":
            record = yield from self._ended(command.id, wire.read_row(reply[2]))
            return self._with(crossed, Settled(record, conflict=record.booked != command.amounts, replayed=True))
        if reply[0] == b"unknown":
            if reply[1]:
                yield from self._wrote(reply[1], reply[2])
            return self._with(crossed, Unknown(command.id, entry=reply[1]))
        _, _, seq, was_late, shares, overrun, found, spare, body, was = reply
        made = made or wire.made_of(wire.read_body(body))[0]
        before = wire.read_open(was)
        record = Record(
            command.id,
            before.fingerprint,
            "settled",
            made,
            tuple(shares),
            before.expires_ms,
            seq,
            command.amounts,
            wire.amounts_of(overrun),
        )
        yield from self._wrote(seq, spare)
        return self._with(crossed, Settled(record, late=bool(was_late), crossed=wire.crossings(found, made)))

    def release(self, command: Release) -> Talk[Outcome]:
        made = self._made.get(command.id)
        args = [command.id, row_of(command.id), command.retention_ms]
        reply, crossed = yield from self._ending("release", command.id, made, args)
        return self._with(crossed, Released(command.id, changed=bool(reply[1])))

    def extend(self, command: Extend) -> Talk[Outcome]:
        amounts = "" if not command.amounts else encode(command.amounts)
        ttl_ms = -1 if command.ttl_ms is None else command.ttl_ms
        made = self._made.get(command.id)
        args = [command.id, row_of(command.id), ttl_ms, amounts]
        reply, crossed = yield from self._ending("extend", command.id, made, args)
        said = reply[0]
        if said == b"unknown":
            return self._with(crossed, Unknown(command.id))
        if said == b"known":
            return self._with(crossed, Ended((yield from self._ended(command.id, wire.read_row(reply[2])))))
        if said == b"ended":
            return self._with(crossed, Ended((yield from self._open(command.id, reply[1]))))
        if said == b"denied":
            made = made or wire.made_of(wire.read_body(reply[6]))[0]
            refused = tuple(
                [Refused(made.legs[n - 1], amount, MeterState(*state), 0) for _, n, amount, *state, _ in reply[3]]
            )
            return self._with(crossed, Denied(refused, made.model, reply[1]))
        made = made or wire.made_of(wire.read_body(reply[2]))[0]
        return self._with(crossed, Extended(wire.open_record(command.id, wire.read_open(reply[1]), made, None)))

    def look(self, command: Look) -> Talk[Outcome]:
        legs = [leg.meter for leg in command.legs]
        reply, crossed = yield from self._swept("look", legs, [encode(command.legs)])
        states = tuple([MeterState(*state) for state in reply[2:]])
        return self._with(crossed, Meters(states, reply[1]))

    def fetch(self, command: Fetch) -> Talk[Outcome]:
        record = yield from self.record(command.id)
        return Unknown(command.id) if record is None or record.state == "tombstone" else Found(record)

    def record(self, id: str) -> Talk[Record | None]:
        """What is remembered of an id."""
        row = row_of(id)
        reply = yield from self._store.ask("fetch", [row], [id, row, "", ""])
        if reply[3]:
            return (yield from self._open(id, reply[3]))
        return (yield from self._ended(id, wire.read_row(reply[4]))) if reply[4] else None

    def _deciding(self, command: Reserve, *, check: bool) -> Talk[Outcome]:
        row = row_of(command.id)
        rows = {leg.meter for each in command.candidates for leg in (*each.legs, *each.sources)}
        args = wire.reserve_args(command, row, check=check)
        reply, crossed = yield from self._swept("reserve", [row, *rows], args)
        said = reply[0]
        if said == b"held":
            held, made = self._held(command, reply, check=check)
            if not check:
                if not command.book:
                    self._remember(command.id, made)
                yield from self._wrote(reply[2], reply[9])
            return self._with(crossed, held)
        if said == b"denied":
            candidates = wire.on_runs(command.candidates, reply[4])
            refused = wire.misses(reply[3], candidates)
            return self._with(crossed, Denied(refused, candidates[reply[2]].model, reply[1]))
        if said == b"stale":
            return self._with(crossed, _stale(reply))
        known = yield from self._known(command.id, reply)
        return self._with(crossed, _replayed(known, command))

    def _held(self, command: Reserve, reply: Reply, *, check: bool) -> tuple[Held, Made]:
        _, now_ms, seq, chosen, output, shares, passed, crossed, runs, _ = reply
        command = command._replace(candidates=wire.on_runs(command.candidates, runs))
        candidate = command.candidates[chosen]
        limit = None if output < 0 else output
        held = candidate.held if limit is None or candidate.scale is None else candidate.scale.at(limit)
        verdict = Verdict(chosen, held, tuple(shares), wire.misses(passed, command.candidates), (), limit)
        made = made_of(command, verdict, now_ms)
        record = record_of(command, made, verdict.shares, entry=0 if check else seq)
        return Held(record, verdict.passed, chosen, output=limit, crossed=wire.crossings(crossed, made)), made

    def _ending(self, name: str, id: str, made: Made | None, args: Sequence[Any]) -> Talk[tuple[Reply, list[Crossing]]]:
        """A step of the second phase. Where the call was made elsewhere, the store says on which meters it stands."""
        rows = [row_of(id)] if made is None else [row_of(id), *(leg.meter for leg in made.meters)]
        reply, crossed = yield from self._swept(name, rows, args)
        if reply[0] == b"need":
            found = wire.made_of(wire.read_body(reply[1]))[0]
            more, again = yield from self._swept(name, [row_of(id), *(leg.meter for leg in found.meters)], args)
            return more, crossed + again
        return reply, crossed

    def _swept(self, name: str, rows: Iterable[str], args: Sequence[Any]) -> Talk[tuple[Reply, list[Crossing]]]:
        """A step before which everything overdue has ended, and what that crossed."""
        rows, crossed = tuple(rows), []
        for number in range(SWEEP_ROUNDS + 1):
            reply = yield from self._store.ask(name, rows, args, skip=number == SWEEP_ROUNDS)
            if reply[0] != b"due":
                break
            crossed += yield from self._sweep(reply[1:])
        return reply, crossed

    def _sweep(self, due: Reply) -> Talk[list[Crossing]]:
        ids, texts, bodies = due[::3], due[1::3], due[2::3]
        made = [
            wire.made_of(wire.read_body(body))[0] if was.startswith(b"h") and body else _NEVER_MADE
            for was, body in zip(texts, bodies, strict=True)
        ]
        rows = {leg.meter for each in made for leg in each.meters}
        reply = yield from self._store.ask("sweep", rows, ids)
        crossed: list[Crossing] = []
        for which, *each in reply[1]:
            crossed += wire.crossings([each], made[which])
        return crossed

    def _wrote(self, seq: int, spare: int) -> Talk[None]:
        self._store.saw(seq)
        if spare < 0:
            yield from self._store.grow()

    def _known(self, id: str, reply: Reply) -> Talk[Record]:
        if reply[1]:
            return (yield from self._open(id, reply[1]))
        return (yield from self._ended(id, wire.read_row(reply[2])))

    def _open(self, id: str, value: bytes) -> Talk[Record]:
        """A reservation that may still change, with the entries that say what was made and how it ended."""
        found = wire.read_open(value)
        lines = yield from self._journals.lines({found.made, found.entry})
        made = wire.made_of(lines[found.made].body)[0] if found.made in lines else _NEVER_MADE
        ending = lines[found.entry].body if found.state != "held" and found.entry in lines else None
        return wire.open_record(id, found, made, ending)

    def _ended(self, id: str, row: wire.RowText) -> Talk[Record]:
        """A settled call. Where its entries were archived elsewhere, only its cost in dollars is remembered."""
        if row.state == "tombstone":
            return Record(id, "", "tombstone", _NEVER_MADE, (), 0, entry=0)
        lines = yield from self._journals.lines({row.made, row.entry})
        if row.made not in lines or row.entry not in lines:
            return Record(id, row.fingerprint, row.state, _NEVER_MADE, (), 0, row.entry, {"usd": row.usd})
        made, at_ms, ending = wire.made_of(lines[row.made].body)[0], lines[row.entry].at_ms, lines[row.entry].body
        if row.made == row.entry:  # booked in the step that made it
            return Record(id, row.fingerprint, row.state, made, (), at_ms, row.entry, made.held)
        ended: tuple[Amounts, Amounts] = ending["amounts"], ending["overrun"]
        return Record(id, row.fingerprint, row.state, made, (), at_ms, row.entry, *ended)

    def _remember(self, id: str, made: Made) -> None:
        self._made[id] = made
        while len(self._made) > REMEMBERED:
            self._made.popitem(last=False)

    @staticmethod
    def _with(crossed: Sequence[Crossing], outcome: Outcome) -> Outcome:
        if crossed and isinstance(outcome, Telling):
            return outcome._replace(crossed=(*crossed, *outcome.crossed))
        return outcome


def _stale(reply: Reply) -> Stale:
    _, now_ms, profile, policy, document = reply
    return Stale(
        now_ms,
        wire.read_profile(profile) if profile else None,
        wire.read_policy(document) if policy >= 0 else None,
    )


def _replayed(known: Record, command: Reserve) -> Held | Mismatch:
    """As the ledger answers; of an ended call only the beginning of the fingerprint is remembered."""
    asked = command.fingerprint
    if known.fingerprint and asked[: wire.FINGERPRINT] == known.fingerprint[: wire.FINGERPRINT]:
        asked = known.fingerprint
    return replay(known, command._replace(fingerprint=asked))
