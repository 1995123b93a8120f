"""Putting a policy in force for every process that has none of its own, and what its new caps begin with."""

from __future__ import annotations

import os
from collections.abc import Mapping

from capguard import answers
from capguard.acceptance import accepted
from capguard.backends.base import Clock
from capguard.backfill import Backfilling
from capguard.errors import BackendUnavailable, PolicyError
from capguard.ledger.commands import PolicyInForce, Publish
from capguard.ledger.flows import Flow
from capguard.ledger.outcomes import NEVER, Nothing, Outcome, Published, Revised, Stale, Superseded
from capguard.policy.document import Policy
from capguard.policy.load import dump_policy, load_policy
from capguard.policy.resolve import Rulebook

BACKFILL_ROUNDS = 20
"""How often a backfill that new entries have overtaken takes them in and tries again."""

PolicySource = Policy | Mapping[str, object] | str | os.PathLike[str]


def publication(
    policy: PolicySource, base: int | None = None, by: str | None = None, why: str | None = None, shard_by: str = ""
) -> Publish:
    """The command that publishes a policy. Raises PolicyError for one that is refused."""
    return Publish(dump_policy(accepted(policy, shard_by)), base, by, why)


def publishing(command: Publish, clock: Clock, *, backfill: bool, shard_by: str) -> Flow[Outcome]:
    """Publish; with `backfill`, caps that the policy in force does not have begin with what the journal says of them.

    What is booked meanwhile is folded in, until nothing is. Raises BackendUnavailable where that never comes, and
    ValueError for a `backfill` of books that are apart: no step fills the meters of all shards at once.
    """
    if backfill and shard_by:
        raise ValueError(
            f"backfill: the books are apart by {shard_by}, and no step fills all of them; allowed: publish without it:"
            " caps that are new begin at 0, and `since` in their status says from when they count"
        )
    found = yield PolicyInForce()
    before = found.policy if isinstance(found, Published) else NEVER
    command = command._replace(since=_since(before, command, clock(), backfill=backfill))
    fold = _folding(before, command, clock) if backfill else None
    if not fold:
        return (yield command)
    for _ in range(BACKFILL_ROUNDS):
        while lines := answers.lines((yield fold.page)):
            fold.add(lines)
        outcome = yield command._replace(backfill=fold.command())
        if not isinstance(outcome, Stale):
            return outcome
    raise BackendUnavailable("calls were booked faster than the journal could be folded; nothing is published")


def policy_found(initial: PolicySource | None, shard_by: str = "") -> Flow[Revised]:
    """The policy that the backend holds; where it holds none, `initial` is published as the first.

    Raises PolicyError where there is neither.
    """
    outcome = yield PolicyInForce()
    if isinstance(outcome, Nothing) and initial is not None:
        outcome = yield publication(initial, base=0, why="initial policy", shard_by=shard_by)
        if isinstance(outcome, Superseded):  # another process was first: its policy holds
            outcome = yield PolicyInForce()
    if not isinstance(outcome, Published):
        raise PolicyError(
            "no policy: pass policy= (a file, a dict or a Policy; {} has no caps and books all), or publish one:"
            " capguard policy push FILE, or initial_policy=; in the environment, CAPGUARD_POLICY names the file"
        )
    return outcome.policy


def _folding(before: Revised, command: Publish, clock: Clock) -> Backfilling:
    """The fold for what is new in a policy, beside the one in force; where none is, all of it."""
    return Backfilling(load_policy(dict(before.body)), load_policy(dict(command.document)), clock())


def _since(before: Revised, command: Publish, now_ms: int, *, backfill: bool) -> Mapping[str, int]:
    """From when on each cap counts that came in later than the first policy, and was not filled."""
    if not before.revision:
        return {}
    try:
        there = {rule.kind for rule in Rulebook(load_policy(dict(before.body))).rules()}
    except PolicyError:  # an older capguard took it: it can be replaced all the same
        return {}
    since = {}
    for rule in Rulebook(load_policy(dict(command.document))).rules():
        if rule.kind not in there and not backfill:
            since[rule.kind_key] = now_ms
        elif rule.kind in there and rule.kind_key in before.since:
            since[rule.kind_key] = before.since[rule.kind_key]
    return since
