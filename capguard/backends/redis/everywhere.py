"""What every shard has of one ledger: the policy in force, and profiles where a user may call from any shard."""

from __future__ import annotations

from collections.abc import Sequence

from capguard.backends.redis.ledger import Ledger
from capguard.backends.redis.store import Talk
from capguard.ledger.commands import PolicyInForce, Publish, Steer
from capguard.ledger.outcomes import Outcome, Published, Steered


class Everywhere:
    """Puts things in the first shard, which decides, then in all others. One that lags is helped by who meets it."""

    def __init__(self, ledgers: Sequence[Ledger]):
        self._ledgers = ledgers

    def steer(self, command: Steer) -> Talk[Outcome]:
        first = yield from self._ledgers[0].carry_out(command)
        for ledger in self._ledgers[1:] if isinstance(first, Steered) else ():
            yield from ledger.carry_out(command)
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
            copied = yield from ledger.steerings.copy(first.policy)
            replayed = replayed and copied.replayed
        return first._replace(replayed=replayed)

    def caught_up(self, shard: int) -> Talk[bool]:
        """Bring a shard up to the policy of the first one, where there is one."""
        newest = yield from self._ledgers[0].carry_out(PolicyInForce())
        if not isinstance(newest, Published):
            return False
        yield from self._ledgers[shard].steerings.copy(newest.policy)
        return True
