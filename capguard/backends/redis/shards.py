"""One ledger as 64, for a cluster: the books of each identity are in one of them, and so in one place.

A call is decided where the identity is that it is sharded by, in one step, as without shards. What concerns everybody
is in the first shard, and copied from there.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from capguard.backends.base import Clock
from capguard.backends.redis.archiving import Archived
from capguard.backends.redis.everywhere import Everywhere
from capguard.backends.redis.ledger import Ledger, refuse_nothing
from capguard.backends.redis.merging import Merging, number_of
from capguard.backends.redis.restoring import Restored
from capguard.backends.redis.store import Talk
from capguard.backends.redis.talks import with_crossed
from capguard.ledger.caps import Leg, MeterState
from capguard.ledger.commands import (
    Alerts,
    Check,
    Command,
    Extend,
    Fetch,
    Journal,
    Look,
    Profile,
    Publish,
    Refusals,
    Release,
    Reserve,
    Settle,
    Steer,
    Verify,
)
from capguard.ledger.ids import SHARDS, minted_shard, shard_of
from capguard.ledger.outcomes import (
    AlertRows,
    Crossing,
    Difference,
    Ended,
    Extended,
    Found,
    Held,
    Meters,
    Outcome,
    RefusalCounts,
    Released,
    Settled,
    Stale,
    Unknown,
    Verified,
)

T = TypeVar("T", RefusalCounts, AlertRows)

REMEMBERED = 65_536
"""Calls whose shard a process remembers; that of another one is looked for in all of them."""


class Sharded:
    """As `Ledger`, on the shards of a namespace by the field `shard_by` of the identity."""

    def __init__(self, namespace: str, clock: Clock, shard_by: str, *, strict: bool, archive: Path | None):
        layout, warned = f"{shard_by}/{SHARDS}", set[str]()
        self._by = shard_by
        self._ledgers = [
            Ledger(
                namespace if shard == 0 else f"{namespace}/{shard}",
                clock,
                strict=strict,
                archive=None if archive is None else _file_of(archive, shard),
                layout=layout,
                warned=warned,
            )
            for shard in range(SHARDS)
        ]
        self._merging = Merging(self._ledgers)
        self._everywhere = Everywhere(self._ledgers, profiles=shard_by != "user")
        self._places: OrderedDict[str, int] = OrderedDict()
        self._met = False
        self._talks: Mapping[type, Callable[[Any], Talk[Outcome]]] = {
            Reserve: self._reserve,
            Check: lambda check: self._deciding(check, check.reserve),
            Settle: self._by_id,
            Release: self._release,
            Extend: self._by_id,
            Fetch: self._by_id,
            Look: self._look,
            Steer: self._steer,
            Profile: self._profile,
            Publish: self._everywhere.publish,
            Journal: self._journal,
            Refusals: lambda page: self._rows(page, RefusalCounts),
            Alerts: lambda page: self._rows(page, AlertRows),
            Verify: self._verify,
        }

    def carry_out(self, command: Command) -> Talk[Outcome]:
        """One command, in its shard; what is of no shard, in the first. Raises BackendUnavailable."""
        if not self._met:
            yield from self._everywhere.meet()
            self._met = True
        talk: Callable[[Any], Talk[Outcome]] = self._talks.get(type(command), self._ledgers[0].carry_out)
        return (yield from talk(command))

    @property
    def renewed(self) -> int:
        """All are recovered together: what the first of them that is met says, the others repeat."""
        return max(ledger.renewed for ledger in self._ledgers)

    def weaknesses(self) -> Sequence[str]:
        return list(dict.fromkeys(weak for ledger in self._ledgers for weak in ledger.weaknesses()))

    def seen(self) -> Sequence[Any] | None:
        rows = [(shard, *seen) for shard, ledger in enumerate(self._ledgers) if (seen := ledger.seen()) is not None]
        return rows or None

    def recall(self, seen: Sequence[Any]) -> None:
        for row in seen:
            if isinstance(row, Sequence) and not isinstance(row, str):
                shard, *known = row
                self._ledgers[shard].recall(known)
            else:  # it was not sharded then: its first shard says so
                self._ledgers[0].recall(seen)
                return

    def accept_loss(self) -> Talk[int]:
        dropped = 0
        for ledger in self._ledgers:
            dropped += yield from ledger.accept_loss()
        return dropped

    def archive(self, path: Path, kept_ms: int) -> Talk[Archived]:
        """Each shard has a file of its own beside the first one's."""
        done = []
        for shard, ledger in enumerate(self._ledgers):
            done.append((yield from ledger.archive(_file_of(path, shard), kept_ms)))
        return Archived(*(sum(counts) for counts in zip(*done, strict=True)))

    def restore(self, path: Path) -> Talk[Restored]:
        """Every file is looked at before the first shard is touched."""
        added = entries = 0
        for shard, ledger in enumerate(self._ledgers):
            found = yield from ledger.prepare(_file_of(path, shard))
            added, entries = added + found[0], entries + found[1]
        refuse_nothing(path, entries)
        for ledger in self._ledgers:  # none is taken for a new one, should this end half way
            yield from ledger.stop()
        done: list[Restored] = []
        for shard, ledger in enumerate(self._ledgers):
            done.append((yield from ledger.rebuild(_file_of(path, shard))))
        total, more, meters, held, profiles = (sum(counts) for counts in zip(*(part[:5] for part in done), strict=True))
        strays = tuple([line for part in done for line in part.strays])
        return Restored(total, more + added, meters, held, profiles, strays)

    def files(self, path: Path) -> list[Path]:
        return [_file_of(path, shard) for shard in range(SHARDS)]

    def _reserve(self, command: Reserve) -> Talk[Outcome]:
        shard = shard_of(command.identity.get(self._by))
        self._remember(command.id, shard)
        return _numbered((yield from self._deciding(command, command)), shard)

    def _deciding(self, command: Reserve | Check, reserve: Reserve) -> Talk[Outcome]:
        """Ask the shard of a call; once more where it had to be brought up to what the caller knows."""
        shard = shard_of(reserve.identity.get(self._by))
        outcome = yield from self._ledgers[shard].carry_out(command)
        if not isinstance(outcome, Stale) or not (yield from self._everywhere.caught_up(shard, reserve, outcome)):
            return outcome
        return with_crossed(outcome.crossed, (yield from self._ledgers[shard].carry_out(command)))

    def _by_id(self, command: Settle | Extend | Fetch) -> Talk[Outcome]:
        shard = yield from self._found(command.id)
        if shard is None:
            shard = shard_of(command.id)
        return _numbered((yield from self._ledgers[shard].carry_out(command)), shard)

    def _release(self, command: Release) -> Talk[Outcome]:
        shard = yield from self._found(command.id)
        if shard is not None:
            return (yield from self._ledgers[shard].carry_out(command))
        done: list[Released] = []
        for ledger in self._ledgers:  # its reserve may come late, to any of them
            outcome = yield from ledger.carry_out(command)
            assert isinstance(outcome, Released)
            done.append(outcome)
        crossed = tuple([crossing for each in done for crossing in each.crossed])
        return Released(command.id, any(each.changed for each in done), crossed)

    def _found(self, id: str) -> Talk[int | None]:
        """The shard of a call, first where its id says; None where no shard remembers it."""
        if (known := self._places.get(id)) is not None:
            return known
        likely = minted_shard(id)
        for shard in sorted(range(SHARDS), key=lambda shard: shard != likely):
            if isinstance((yield from self._ledgers[shard].carry_out(Fetch(id))), Found):
                self._remember(id, shard)
                return shard
        return None

    def _look(self, command: Look) -> Talk[Outcome]:
        states: dict[int, MeterState] = {}
        crossed: list[Crossing] = []
        now_ms = 0
        for shard, places in self._grouped(command.legs).items() or [(0, [])]:
            part = Look(tuple([command.legs[place] for place in places]))
            found = yield from self._ledgers[shard].carry_out(part)
            assert isinstance(found, Meters)
            states |= zip(places, found.states, strict=True)
            now_ms = max(now_ms, found.now_ms)
            crossed += found.crossed
        return Meters(tuple([states[place] for place in range(len(command.legs))]), now_ms, tuple(crossed))

    def _grouped(self, legs: Sequence[Leg]) -> Mapping[int, list[int]]:
        """Which legs are in which shard, by their places: a leg's scope names whom it counts."""
        groups: dict[int, list[int]] = {}
        for place, leg in enumerate(legs):
            groups.setdefault(shard_of(json.loads(leg.scope).get(self._by)), []).append(place)
        return groups

    def _steer(self, command: Steer) -> Talk[Outcome]:
        if self._by == "user":
            return (yield from self._ledgers[shard_of(command.user)].carry_out(command))
        return (yield from self._everywhere.steer(command))

    def _profile(self, command: Profile) -> Talk[Outcome]:
        return (yield from self._ledgers[shard_of(command.user) if self._by == "user" else 0].carry_out(command))

    def _journal(self, command: Journal) -> Talk[Outcome]:
        alone = self._by == "user" and command.user is not None
        return (yield from self._merging.page(command, [shard_of(command.user)] if alone else range(SHARDS)))

    def _rows(self, page: Refusals | Alerts, kind: type[T]) -> Talk[Outcome]:
        rows: list[Any] = []
        for ledger in self._ledgers:
            found = yield from ledger.carry_out(page)
            assert isinstance(found, kind)
            rows += found.rows
        return kind(tuple(sorted(rows, key=lambda row: row.place)[: page.limit]))

    def _verify(self, command: Verify) -> Talk[Outcome]:
        parts: list[Verified] = []
        for ledger in self._ledgers:
            found = yield from ledger.carry_out(command)
            assert isinstance(found, Verified)
            parts.append(found)
        differences: Iterable[Difference] = (each for part in parts for each in part.differences)
        entries, meters, held = (sum(counts) for counts in zip(*(part[1:4] for part in parts), strict=True))
        why = "; ".join(f"shard {shard}: {part.why}" for shard, part in enumerate(parts) if part.why)
        return Verified(tuple(differences), entries, meters, held, all(part.complete for part in parts), why)

    def _remember(self, id: str, shard: int) -> None:
        self._places[id] = shard
        while len(self._places) > REMEMBERED:
            self._places.popitem(last=False)


def _file_of(archive: Path, shard: int) -> Path:
    return archive if shard == 0 else archive.with_name(f"{archive.stem}-{shard}{archive.suffix}")


def _numbered(outcome: Outcome, shard: int) -> Outcome:
    """With the numbers of entries as they are among those of all shards."""
    if isinstance(outcome, Held | Settled | Found | Ended | Extended):
        record = outcome.record
        return outcome._replace(record=record._replace(entry=number_of(record.entry, shard, SHARDS)))
    return outcome._replace(entry=number_of(outcome.entry, shard, SHARDS)) if isinstance(outcome, Unknown) else outcome
