"""What a process knows of the policy in force and of its users' profiles, and how it learns that they have changed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping

from capguard.acceptance import refuse_wider
from capguard.arguments import Request
from capguard.habits import Habits
from capguard.identity import Identity
from capguard.lastknown import LastKnown
from capguard.ledger.commands import Settle
from capguard.ledger.outcomes import Outcome, Revised, Settled, Stale
from capguard.planner import Draft, Overview, Planner
from capguard.policy.document import Policy
from capguard.policy.load import load_policy
from capguard.policy.profile import NO_PROFILE, UserProfile
from capguard.shelf import Shelf

PROFILES = 65_536
"""Profiles that a process remembers; the ones it used last."""


_NOTHING: Mapping[str, int] = {}


class Knowledge:
    """The planner of the policy in force, and the profiles that were seen. Commands carry the revisions known here.

    A backend that has newer ones answers `Stale` with them, so nothing here needs to be watched or to expire. `copy` is
    what this host knew last, and is told of everything that is learned; `in_force` hears of every policy that holds.
    """

    def __init__(
        self,
        policy: Policy,
        revision: int | None,
        shelf: Shelf | None = None,
        copy: LastKnown | None = None,
        in_force: Callable[[Policy], None] | None = None,
        shard_by: str = "",
        since: Mapping[str, int] = _NOTHING,
    ):
        self.shard_by = shard_by
        self._since = since
        self._in_force = in_force
        if in_force is not None:
            in_force(policy)
        self._copy = copy
        self._recalled = {} if copy is None else copy.profiles()
        self._lock = threading.Lock()
        self._shelf = Shelf() if shelf is None else shelf
        self.habits = Habits()
        self._prices = self._shelf.at(0)
        self._planner = Planner(policy, self._prices, self.habits)
        self._revision = revision
        self._profiles: OrderedDict[str, UserProfile] = OrderedDict()

    @property
    def planner(self) -> Planner:
        return self._planner

    @property
    def revision(self) -> int | None:
        """The revision of the published policy; None where the process brought its own."""
        return self._revision

    def draft(self, request: Request, now_ms: int, *, book: bool, bound: bool = False) -> Draft:
        """A call as the policy and the profile that are known would have it."""
        if self.shard_by:
            refuse_wider(request.caps, self.shard_by)
        prices = self._shelf.at(now_ms)
        with self._lock:
            if prices is not self._prices:  # others hold since the last call
                self._prices, self._planner = prices, Planner(self._planner.policy, prices, self.habits)
            planner, revision = self._planner, self._revision
        draft = planner.draft(request, self.profile(request.identity.user), now_ms, book=book, bound=bound)
        return draft if revision is None else draft._replace(policy=revision)

    def overview(self, identity: Identity, now_ms: int) -> Overview:
        """An identity's caps and sources."""
        return self._planner.overview(identity, self.profile(identity.user), now_ms, self._since)

    def profile(self, user: str | None) -> UserProfile:
        """What is known of a user; an empty profile where nothing is."""
        if user is None:
            return NO_PROFILE
        if user in self._recalled and user not in self._profiles:
            self.learn_profile(user, self._recalled.pop(user))
        return self._profiles.get(user, NO_PROFILE)

    def learn(self, user: str | None, stale: Stale) -> None:
        """Take in the revisions that a backend sent back."""
        if stale.profile is not None and user is not None:
            self.learn_profile(user, stale.profile)
        if stale.policy is not None:
            self.learn_policy(stale.policy)

    def learn_length(self, command: Settle, outcome: Outcome) -> bool:
        """How long a reply was that a provider reported. One that `strict` may have cut short counts twice as long.

        Whether that tells anything.
        """
        usage, flags = command.facts.get("usage"), command.facts.get("flags", ())
        if not usage or "uncertain" in flags or not isinstance(outcome, Settled) or outcome.replayed:
            return False
        made, length = outcome.record.made, usage.get("output_tokens", 0)
        cut = "strict" in made.facts and 0 < made.held.get("output_tokens", 0) <= length
        choices = made.facts.get("choices", 1)
        told = "how_output" in made.facts and bool(length)
        if told:
            self.habits.learn(made.identity.get("feature"), made.model, -(-length * (2 if cut else 1) // choices))
        return told

    def learn_profile(self, user: str, revised: Revised) -> None:
        with self._lock:
            self._profiles[user] = UserProfile.of(revised)
            self._profiles.move_to_end(user)
            while len(self._profiles) > PROFILES:
                self._profiles.popitem(last=False)
        if self._copy is not None and revised.revision:
            self._copy.note_profile(user, revised)

    def learn_policy(self, revised: Revised) -> None:
        """Switch to another revision of the published policy. One that brought its own keeps it."""
        if self._revision is None or self._revision == revised.revision:
            return
        policy = load_policy(dict(revised.body))
        with self._lock:
            planner = Planner(policy, self._prices, self.habits)
            self._planner, self._revision, self._since = planner, revised.revision, revised.since
        if self._in_force is not None:
            self._in_force(policy)
        if self._copy is not None:
            self._copy.note_policy(revised)
