"""What every shard has of one ledger: the policy in force, and profiles where a user may call from any shard."""

from __future__ import annotations

from collections.abc import Sequence

from capguard.backends.redis.ledger import Ledger
from capguard.backends.redis.store import Talk, answered
from capguard.ledger.commands import PolicyInForce, Profile, Publish, Reserve, Steer
from capguard.ledger.outcomes import Outcome, Published, Revised, Stale, Steered

_READY = "ready"
"""The field of the first shard's meta that says that all were begun."""


class Everywhere:
    """Puts things in the first shard, which decides, then in all others, under the revision that they have there.

    One that was left behind is helped by whoever meets it and knows better. With `profiles`, each is everywhere.
    """

    def __init__(self, ledgers: Sequence[Ledger], *, profiles: bool):
        self._ledgers = ledgers
        self._profiles = profiles

    def meet(self) -> Talk[None]:
        """Open the first shard, which says whether all are as this URL has them, and whether all were begun.

        Where they were, one that is not there was lost. Where not, each is begun now: none later, when it is used.
        """
        first, *others = self._ledgers
        yield from first.carry_out(PolicyInForce())
        begun = answered((yield ("HGET", first.meta, _READY)))
        for ledger in others:
            if begun:
                ledger.expect()
            else:
                yield from ledger.carry_out(PolicyInForce())
        if not begun:
            answered((yield ("HSET", first.meta, _READY, 1)))

    def steer(self, command: Steer) -> Talk[Outcome]:
        first = yield from self._ledgers[0].carry_out(command)
        if not isinstance(first, Steered):
            return first
        for ledger in self._ledgers[1:]:
            yield from ledger.steerings.copy_profile(command.user, first.profile)
        return first

    def publish(self, command: Publish) -> Talk[Outcome]:
        assert command.backfill is None, "no step fills all shards"
        newest = yield from self._ledgers[0].carry_out(PolicyInForce())
        if isinstance(newest, Published) and newest.policy.body == command.document:
            command = command._replace(base=None)  # begun before, and not finished
        first = yield from self._ledgers[0].carry_out(command)
        if not isinstance(first, Published):
            return first
        replayed = first.replayed
        for ledger in self._ledgers[1:]:
            copied = yield from ledger.steerings.copy_policy(first.policy)
            replayed = replayed and copied.replayed
        return first._replace(replayed=replayed)

    def caught_up(self, shard: int, command: Reserve, said: Stale) -> Talk[bool]:
        """Bring a shard up to the first one in what it has older than its caller. Whether there was anything."""
        old_policy = _is_older(said.policy, command.policy)
        old_profile = self._profiles and _is_older(said.profile, command.profile)
        copies = self._ledgers[shard].steerings
        if old_policy:
            newest = yield from self._ledgers[0].carry_out(PolicyInForce())
            if isinstance(newest, Published):
                yield from copies.copy_policy(newest.policy)
        if old_profile:
            user = command.identity["user"]
            found = yield from self._ledgers[0].carry_out(Profile(user))
            assert isinstance(found, Steered)
            yield from copies.copy_profile(user, found.profile)
        return old_policy or old_profile


def _is_older(found: Revised | None, known: int | None) -> bool:
    """Whether a shard answers with an older revision than the one that the caller has."""
    return found is not None and known is not None and found.revision < known
