"""The Redis backend: a conversation per command, most of them one script, one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from capguard.backends.base import Clock, system_clock
from capguard.backends.redis.archive import Archive
from capguard.backends.redis.archiving import KEPT_MS, Archived
from capguard.backends.redis.client import Client
from capguard.backends.redis.ledger import Ledger
from capguard.backends.redis.restoring import Restored
from capguard.backends.redis.shards import Sharded
from capguard.backends.redis.store import Talk
from capguard.backends.redis.target import Target, read_url
from capguard.detached import finished
from capguard.ledger.commands import Command, PolicyInForce
from capguard.ledger.outcomes import Outcome

T = TypeVar("T")

DEADLINE_S = 0.25
"""How long a step may take unless somebody says."""


class RedisBackend:
    """A ledger in Redis: of a URL as `redis://host:6379/0`, or of the servers of a client that is there already.

    Every command is atomic on the server, whose clock counts. `deadline` is the longest that one step waits for a
    reply, in seconds. With `strict`, a server that holds no ledger is never taken for an empty one. `archive` is where
    the older part of the journal was moved to. With `shard_by`, a field of the identity, the books of each of its
    values are in one place, and those of others may be elsewhere: `shards` says how.
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
        shard_by: str = "",
    ):
        where = read_url(target)[0] if isinstance(target, str) else target
        self.url = str(where)
        self._target, self._connections = where, connections
        self._given, self._deadline = deadline is not None, DEADLINE_S if deadline is None else deadline
        self._client = Client(where, deadline=self._deadline, connections=connections)
        self.shard_by = shard_by
        self._ledger = (
            Sharded(namespace, clock, shard_by, strict=strict, archive=archive)
            if shard_by
            else Ledger(namespace, clock, strict=strict, archive=archive)
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def execute(self, command: Command) -> Outcome:
        """Carry out one command. Raises BackendUnavailable."""
        return self._run(self._ledger.carry_out(command))

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
        return self._run(self._ledger.accept_loss())

    def restore(self, path: Path) -> Restored:
        """Make a ledger anew from its archive, and from what is left of its journal; `restoring` says how.

        Raises ValueError where entries are in neither or the file is another ledger's, BackendUnavailable.
        """
        return self._run(self._ledger.restore(path))

    def told(self, path: Path) -> None:
        """The strays that `restore` gave are in the books."""
        for file in self._ledger.files(path):
            Archive(file).told()

    def archive(self, path: Path, kept_ms: int = KEPT_MS) -> Archived:
        """Move the journal's older entries into a SQLite file, made where it is not there; `archiving` says how.

        Raises ValueError where the file is something else, BackendUnavailable.
        """
        self.execute(PolicyInForce())  # what is not there any more is noticed, and not begun anew
        return self._run(self._ledger.archive(path, kept_ms))

    def seen(self) -> Sequence[Any] | None:
        return self._ledger.seen()

    def recall(self, seen: Sequence[Any]) -> None:
        self._ledger.recall(seen)

    @property
    def renewed(self) -> int:
        return self._ledger.renewed

    def weaknesses(self) -> Sequence[str]:
        return self._ledger.weaknesses()

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
        talk = self._ledger.carry_out(command)
        try:
            words = next(talk)
            while True:
                words = talk.send(await self._client.asend(words))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
