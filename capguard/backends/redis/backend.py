"""The Redis backend: a conversation per command, most of them one script, one round trip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from capguard.backends.base import Clock, system_clock
from capguard.backends.redis.archive import Archive
from capguard.backends.redis.archiving import KEPT_MS, Archived, archiving
from capguard.backends.redis.client import Client
from capguard.backends.redis.journal import Journals
from capguard.backends.redis.notes import Notes
from capguard.backends.redis.reading import Readings
from capguard.backends.redis.restoring import Restored, restoring
from capguard.backends.redis.steering import Steerings
from capguard.backends.redis.store import Store, Talk
from capguard.backends.redis.talks import Talks
from capguard.backends.redis.target import Target, read_url
from capguard.detached import finished
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

T = TypeVar("T")

DEADLINE_S = 0.25
"""How long a step may take unless somebody says."""


class RedisBackend:
    """A ledger in Redis: of a URL as `redis://host:6379/0`, or of the servers of a client that is there already.

    Every command is atomic on the server, whose clock counts. `deadline` is the longest that one step waits for a
    reply, in seconds. With `strict`, a server that holds no ledger is never taken for an empty one. `archive` is where
    the older part of the journal was moved to.
    """

    def __init__(
        self,
        target: str | Target,
        *,
        namespace: str = "default",
        clock: Clock = system_clock,
        deadline: float | None = None,
        connections: int = 64,
        strict: bool = False,
        archive: Path | None = None,
    ):
        where = read_url(target)[0] if isinstance(target, str) else target
        self.url = str(where)
        self._target, self._connections = where, connections
        self._given, self._deadline = deadline is not None, DEADLINE_S if deadline is None else deadline
        self._client = Client(where, deadline=self._deadline, connections=connections)
        self._store = Store(namespace, clock, strict=strict)
        self._journals = journals = Journals(self._store, None if archive is None else Archive(archive))
        talks = Talks(self._store, journals)
        steerings = Steerings(self._store, journals)
        readings = Readings(self._store, journals, talks)
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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def execute(self, command: Command) -> Outcome:
        """Carry out one command. Raises BackendUnavailable."""
        return self._run(self._talks[type(command)](command))

    async def aexecute(self, command: Command) -> Outcome:
        """As `execute`. Cancelled, the command is carried out to its end: only the caller stops waiting."""
        return await finished(self._carry_out(command))

    def answer_within(self, seconds: float) -> None:
        if not self._given and seconds != self._deadline:
            self._deadline, before = seconds, self._client
            self._client = Client(self._target, deadline=seconds, connections=self._connections)
            before.close()

    def accept_loss(self) -> int:
        """Go on with what is left of a store that has lost state, for every process that used it before.

        Returns how many open calls were dropped. Raises BackendUnavailable where the server is away.
        """
        return self._run(self._store.accept_loss())

    def restore(self, path: Path) -> Restored:
        """Make a ledger anew from its archive, and from what is left of its journal; `restoring` says how.

        Raises ValueError where entries are in neither, BackendUnavailable.
        """
        archive = Archive(path)
        archive.create()
        return self._run(restoring(self._store, archive))

    def archive(self, path: Path, kept_ms: int = KEPT_MS) -> Archived:
        """Move the journal's older entries into a SQLite file, made where it is not there; `archiving` says how.

        Raises ValueError where the file is something else, BackendUnavailable.
        """
        archive = Archive(path)
        archive.create()
        return self._run(archiving(self._store, Journals(self._store), archive, kept_ms))

    def seen(self) -> Sequence[Any] | None:
        return self._store.seen()

    def recall(self, seen: Sequence[Any]) -> None:
        self._store.recall(seen)

    @property
    def renewed(self) -> int:
        return self._store.renewed

    def weaknesses(self) -> Sequence[str]:
        return self._store.weak

    def close(self) -> None:
        self._client.close()

    def _run(self, talk: Talk[T]) -> T:
        try:
            words = next(talk)
            while True:
                words = talk.send(self._client.send(words))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def _carry_out(self, command: Command) -> Outcome:
        talk = self._talks[type(command)](command)
        try:
            words = next(talk)
            while True:
                words = talk.send(await self._client.asend(words))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
