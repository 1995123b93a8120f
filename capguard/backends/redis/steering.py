"""What is steered at run time: profiles and policies are read, changed here, and put back if nobody was faster."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from capguard.backends.redis import wire
from capguard.backends.redis.journal import Journals
from capguard.backends.redis.packing import encode, pack_legs, pack_numbers
from capguard.backends.redis.store import MOST_TRIES, Store, Talk
from capguard.backends.redis.wire import Reply
from capguard.errors import BackendUnavailable
from capguard.ledger.commands import Backfill, Journal, PolicyInForce, Profile, Publish, Steer
from capguard.ledger.outcomes import Nothing, Outcome, Published, Revised, Stale, Steered, Superseded
from capguard.ledger.revisions import published, steer

_Entry = tuple[str, str, Mapping[str, Any]]
"""Kind, id and body of an entry."""


class Steerings:
    """Profiles and policies of one store."""

    def __init__(self, store: Store, journals: Journals):
        self._store = store
        self._journals = journals

    def profile(self, command: Profile) -> Talk[Outcome]:
        reply = yield from self._fetch(user=command.user)
        return Steered(wire.read_profile(reply[6]))

    def policy_in_force(self, command: PolicyInForce) -> Talk[Outcome]:
        reply = yield from self._fetch(revision="" if command.revision is None else str(command.revision))
        return Published(wire.read_policy(reply[8])) if reply[8] else Nothing()

    def steer(self, command: Steer) -> Talk[Outcome]:
        for _ in range(MOST_TRIES):
            reply = yield from self._fetch(user=command.user)
            page = _OneProfile(wire.read_profile(reply[6]))
            outcome = steer(page, command, reply[3])  # type: ignore[arg-type]
            if page.entry is None:
                return outcome
            if (yield from self._put_profile(command.user, reply[6], page.kept, page.entry)):
                return outcome
        raise _overtaken(f"the profile of {command.user!r}")

    def copy_profile(self, user: str, profile: Revised) -> Talk[None]:
        """Put in the place of a profile what another shard has, under its revision, unless this one has it or newer.

        The entry bears all of it: what was changed, by whom and why stands where it was decided.
        """
        told = {"change": profile.body, "revision": profile.revision}
        for _ in range(MOST_TRIES):
            read = (yield from self._fetch(user=user))[6]
            if wire.read_profile(read).revision >= profile.revision:
                return
            if (yield from self._put_profile(user, read, profile, ("profile", "", told))):
                return
        raise _overtaken(f"the profile of {user!r}")

    def _put_profile(self, user: str, before: bytes, after: Revised, entry: _Entry) -> Talk[bool]:
        """In the place of the one that was read, with an entry. Whether nobody was faster."""
        kind, id, body = entry
        text, read = f"{after.revision}:{encode(after.body)}", before.partition(b":")[0]
        reply = yield from self._store.ask("steer", [user, read, text, kind, id, encode(body)])
        return bool(reply[0] == b"steered")

    def publish(self, command: Publish) -> Talk[Outcome]:
        for _ in range(MOST_TRIES):
            reply = yield from self._fetch()
            now_ms, newest, before = reply[3], reply[1], wire.read_policy(reply[8])
            if command.base is not None and command.base != before.revision:
                return Superseded(before.revision)
            if before.revision and before.body == command.document:
                return Published(before, replayed=True)
            fill = command.backfill
            if fill is not None and (yield from self._is_overtaken(fill)):
                return Stale(now_ms)
            after = Revised(before.revision + 1, command.document, now_ms, command.by, command.why, command.since)
            if (yield from self._put(before, after, fill, newest)):
                return Published(after)
        raise _overtaken("the policy")

    def copy_policy(self, policy: Revised) -> Talk[Published]:
        """Put in force what another shard has, under its revision, unless this one has it or a newer one."""
        for _ in range(MOST_TRIES):
            reply = yield from self._fetch()
            before = wire.read_policy(reply[8])
            if before.revision >= policy.revision:
                return Published(before, replayed=True)
            if (yield from self._put(before, policy, None, reply[1], {"copied": True})):
                return Published(policy)
        raise _overtaken("the policy")

    def _is_overtaken(self, fill: Backfill) -> Talk[bool]:
        newer = yield from self._journals.page(Journal(after=fill.last, since_ms=fill.since_ms, limit=1))
        return bool(newer)

    def _put(
        self,
        before: Revised,
        after: Revised,
        fill: Backfill | None,
        newest: int,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> Talk[bool]:
        body = {**published(after), **more}
        args: list[Any] = [before.revision, after.revision, encode(after._asdict()), encode(body)]
        legs = () if fill is None else fill.legs
        shares = () if fill is None else fill.shares
        filling = ["" if fill is None else newest, pack_legs(legs), pack_numbers(*shares)]
        rows = tuple([leg.meter for leg in legs])
        reply = yield from self._store.ask("publish", [*args, *filling], rows=rows)
        if reply[0] != b"published":
            return False
        yield from self._store.grow(reply[4])
        return True

    def _fetch(self, *, user: str = "", revision: str = "") -> Talk[Reply]:
        reply: Reply = yield from self._store.ask("fetch", ["", "", user, revision])
        return reply


def _overtaken(what: str) -> BackendUnavailable:
    return BackendUnavailable(f"{what} was changed by others {MOST_TRIES} times meanwhile")


class _OneProfile:
    """As much of the books as a change of one profile needs."""

    def __init__(self, before: Revised):
        self.kept = before
        self.entry: _Entry | None = None

    def profile(self, _user: str) -> Revised:
        return self.kept

    def put_profile(self, _user: str, profile: Revised) -> None:
        self.kept = profile

    def append(self, _at_ms: int, kind: str, id: str, _user: str | None, body: Mapping[str, Any]) -> int:
        self.entry = kind, id, body
        return 0
