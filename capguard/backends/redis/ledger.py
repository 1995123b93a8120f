"""One ledger on one server: which conversation carries out which command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from capguard.backends.base import Clock
from capguard.backends.redis.archive import Archive
from capguard.backends.redis.archiving import Archived, archiving
from capguard.backends.redis.journal import Journals
from capguard.backends.redis.notes import Notes
from capguard.backends.redis.reading import Readings
from capguard.backends.redis.restoring import Restored, preparing, restoring, stopped
from capguard.backends.redis.steering import Steerings
from capguard.backends.redis.store import Store, Talk
from capguard.backends.redis.talks import Talks
from capguard.ledger.commands import (
    Alerts,
    Check,
    Command,
    Extend,
    Fetch,
    Journal,
    Look,
    PolicyInForce,
    Profile,
    Publish,
    Refusals,
    Release,
    Reserve,
    Settle,
    Share,
    Steer,
    Verify,
)
from capguard.ledger.outcomes import Outcome


class Ledger:
    """The books of one namespace, all of whose keys are in one place. Knows no connection: everything is a talk."""

    def __init__(
        self,
        namespace: str,
        clock: Clock,
        *,
        strict: bool,
        archive: Path | None,
        layout: str = "",
        warned: set[str] | None = None,
    ):
        self._store = Store(namespace, clock, strict=strict, layout=layout, warned=warned)
        self.meta = self._store.keys.meta
        self.journals = Journals(self._store, None if archive is None else Archive(archive))
        talks = Talks(self._store, self.journals)
        self.steerings = steerings = Steerings(self._store, self.journals)
        readings = Readings(self._store, self.journals, talks)
        self._talks: Mapping[type, Callable[[Any], Talk[Outcome]]] = {
            Reserve: talks.reserve,
            Check: talks.check,
            Settle: talks.settle,
            Release: talks.release,
            Extend: talks.extend,
            Look: talks.look,
            Fetch: talks.fetch,
            Steer: steerings.steer,
            Profile: steerings.profile,
            Publish: steerings.publish,
            PolicyInForce: steerings.policy_in_force,
            Journal: readings.journal,
            Refusals: readings.refusals,
            Alerts: readings.alerts,
            Share: Notes(self._store).share,
            Verify: readings.verify,
        }

    def carry_out(self, command: Command) -> Talk[Outcome]:
        """One command. Raises BackendUnavailable."""
        return self._talks[type(command)](command)

    def expect(self) -> None:
        """It was begun before: from now on an empty place is never taken for a new one."""
        self._store.expected = True

    @property
    def renewed(self) -> int:
        return self._store.renewed

    def weaknesses(self) -> Sequence[str]:
        return self._store.weak

    def seen(self) -> Sequence[Any] | None:
        return self._store.seen()

    def recall(self, seen: Sequence[Any]) -> None:
        """Of one that was sharded then, its first shard: that one says that it is."""
        rows = [seen] if isinstance(seen[0], str) else [row[1:] for row in seen if row[0] == 0]
        for row in rows:
            self._store.recall(row)

    def accept_loss(self) -> Talk[int]:
        return self._store.accept_loss()

    def archive(self, path: Path, kept_ms: int) -> Talk[Archived]:
        archive = Archive(path)
        archive.create()
        return archiving(self._store, Journals(self._store), archive, kept_ms)

    def files(self, path: Path) -> list[Path]:
        """The archives that belong to this one."""
        return [path]

    def prepare(self, path: Path) -> Talk[tuple[int, int]]:
        return preparing(self._store, Archive(path))

    def stop(self) -> Talk[None]:
        return stopped(self._store)

    def rebuild(self, path: Path) -> Talk[Restored]:
        return restoring(self._store, Archive(path))

    def restore(self, path: Path) -> Talk[Restored]:
        added, entries = yield from self.prepare(path)
        refuse_nothing(path, entries)
        done = yield from self.rebuild(path)
        return done._replace(added=done.added + added)


def refuse_nothing(path: Path, entries: int) -> None:
    """Raise ValueError where no entry is anywhere: that would be an empty ledger, not one that was made anew."""
    if not entries:
        raise ValueError(f"neither {path} nor the store has an entry: there is nothing to make a ledger of")
