"""The verbs that change what holds, for every process at its next call: grants, overrides, plans, policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from capguard import answers
from capguard.acceptance import refuse_wider
from capguard.arguments import checked_id
from capguard.driver import Driver
from capguard.errors import PolicyError
from capguard.identity import checked_name
from capguard.ledger.commands import Look, Steer
from capguard.ledger.flows import Flow
from capguard.ledger.outcomes import Meters, Published, Steered, Unknown
from capguard.ledger.sources import GRANT
from capguard.policy.changes import check_override
from capguard.policy.document import Cap
from capguard.policy.funding import credit_leg
from capguard.policy.profile import UserProfile
from capguard.publishing import PolicySource, publication, publishing
from capguard.results import GrantReceipt
from capguard.terms import grant_terms, override_terms


class Steering(Driver):
    """What a `Guard` can change. `by` and `why` stand in the journal beside the change."""

    def grant(self, *, user: str, amount: object, **terms: Any) -> GrantReceipt:
        """Give a user credit, which pays after the plan's allowance and before overage.

        `amount` is in `unit`, by default that of the user's plan. `until` ends it (an aware datetime; never, if None),
        lower `priority` pays first, `features` and `models` (globs) say what it is good for. Made once per `id`; other
        terms under the same id raise IdempotencyMismatch. Raises ValueError for terms that make no sense.
        """
        return self._run(self._granting(user, amount, **terms))

    async def agrant(self, *, user: str, amount: object, **terms: Any) -> GrantReceipt:
        """As `grant`."""
        return await self._arun(self._granting(user, amount, **terms))

    def revoke(self, *, user: str, id: str, by: str | None = None, why: str | None = None) -> int:
        """End a grant: it pays nothing more than what calls in flight hold of it. Returns the profile's revision."""
        return self._run(self._steering("revoke", user, {"id": checked_id(id)}, by, why))

    async def arevoke(self, *, user: str, id: str, by: str | None = None, why: str | None = None) -> int:
        """As `revoke`."""
        return await self._arun(self._steering("revoke", user, {"id": checked_id(id)}, by, why))

    def override(self, *, user: str, **changes: Any) -> int:
        """Change a cap for one user, `override(user="u1", cap="monthly", limit=20)`, or add `caps=[Cap(...)]`.

        Any field of a cap may change. `until` ends it by itself (an aware datetime). A later override of the same cap
        replaces it. Returns the profile's revision. Raises PolicyError for a change that makes no cap.
        """
        return self._run(self._overriding(user, **changes))

    async def aoverride(self, *, user: str, **changes: Any) -> int:
        """As `override`."""
        return await self._arun(self._overriding(user, **changes))

    def clear_override(
        self, *, user: str, cap: str | None = None, by: str | None = None, why: str | None = None
    ) -> int:
        """Take back the override of one cap, or all of them. Returns the profile's revision."""
        return self._run(self._steering("clear_override", user, _cap_named(cap), by, why))

    async def aclear_override(
        self, *, user: str, cap: str | None = None, by: str | None = None, why: str | None = None
    ) -> int:
        """As `clear_override`."""
        return await self._arun(self._steering("clear_override", user, _cap_named(cap), by, why))

    def assign(self, *, user: str, plan: str | None, by: str | None = None, why: str | None = None) -> int:
        """Put a user on a plan, None for no plan of its own. Returns the profile's revision."""
        return self._run(self._assigning(user, plan, by, why))

    async def aassign(self, *, user: str, plan: str | None, by: str | None = None, why: str | None = None) -> int:
        """As `assign`."""
        return await self._arun(self._assigning(user, plan, by, why))

    def publish(
        self,
        policy: PolicySource,
        *,
        base: int | None = None,
        backfill: bool = False,
        by: str | None = None,
        why: str | None = None,
    ) -> int:
        """Put a policy in force for every process that uses the backend's, at its next call. Returns its revision.

        With `base`, only if that is still the revision in force. With `backfill`, caps that are new begin with what was
        booked in their current period, by the journal, instead of at 0; calls in flight do not count on them. Raises
        PolicyError for a policy that is refused, and in a process whose Guard was given `policy=`, which is the truth
        there; ValueError for a `backfill` of a ledger that is sharded.
        """
        return self._run(self._publishing(policy, base, backfill, by, why))

    async def apublish(
        self,
        policy: PolicySource,
        *,
        base: int | None = None,
        backfill: bool = False,
        by: str | None = None,
        why: str | None = None,
    ) -> int:
        """As `publish`."""
        return await self._arun(self._publishing(policy, base, backfill, by, why))

    def _granting(
        self,
        user: str,
        amount: object,
        *,
        id: str | None = None,
        unit: str | None = None,
        until: datetime | None = None,
        priority: int = 0,
        features: str | Sequence[str] = (),
        models: str | Sequence[str] = (),
        by: str | None = None,
        why: str | None = None,
    ) -> Flow[GrantReceipt]:
        if (apart := self._knowledge.shard_by) not in ("", "user"):
            raise ValueError(
                f"a grant is a user's, whose calls may be in several shards by {apart}; allowed: shard_by=user"
            )
        yield from self._learning(user)
        planner, profile = self._knowledge.planner, self._knowledge.profile(user)
        unit = unit or planner.funding_unit(user, profile)
        good_for = {"features": features, "models": models}
        terms = grant_terms(amount, unit, planner.units, id=id, until=until, priority=priority, **good_for)
        used_up = yield from self._used_up(user, profile)
        revision = yield from self._steering(GRANT, user, {**terms, "used_up": used_up}, by, why)
        return GrantReceipt(terms["id"], revision, planner.loosened(user, profile, unit, self._clock()))

    def _used_up(self, user: str, profile: UserProfile) -> Flow[list[str]]:
        """The user's grants of which all is settled, so that nothing is held: calls need not carry them any more."""
        lasting = profile.lasting_at(self._clock())
        if not lasting:
            return []
        looked = yield Look(tuple([credit_leg(credit, user) for credit in lasting]))
        assert isinstance(looked, Meters)
        self._tell_crossed(looked)
        spent = zip(lasting, looked.states, strict=True)
        return [credit.id for credit, meter in spent if meter.settled >= credit.amount]

    def _overriding(
        self,
        user: str,
        *,
        cap: str | None = None,
        caps: Sequence[Cap] = (),
        until: datetime | None = None,
        by: str | None = None,
        why: str | None = None,
        **fields: Any,
    ) -> Flow[int]:
        wanted = override_terms(cap, caps, until, fields)
        yield from self._learning(user)
        planner = self._knowledge.planner
        made = [cap for change, _ in wanted for cap in check_override(planner.policy, user, change)]
        planner.check_targets(made)
        refuse_wider(made, self._knowledge.shard_by)
        revision = 0
        for _, terms in wanted:
            revision = yield from self._steering("override", user, terms, by, why)
        return revision

    def _assigning(self, user: str, plan: str | None, by: str | None, why: str | None) -> Flow[int]:
        yield from self._learning(user)
        plans = self._knowledge.planner.policy.plans
        if plan is not None and plan not in plans:
            raise ValueError(f"plan: {plan!r:.60} is not in the policy; allowed: {', '.join(plans) or 'none'}")
        return (yield from self._steering("assign", user, {"plan": plan}, by, why))

    def _steering(self, kind: str, user: str, change: Mapping[str, Any], by: str | None, why: str | None) -> Flow[int]:
        outcome = yield Steer(kind, checked_name(user, "user"), change, by, why)
        if isinstance(outcome, Unknown):
            raise ValueError(f"id: user {user!r} has no grant {outcome.id!r}")
        if not isinstance(outcome, Steered):
            raise answers.refused(outcome)
        self._knowledge.learn_profile(user, outcome.profile)
        if not outcome.replayed:
            self._changed(kind, outcome.profile, user)
        return outcome.profile.revision

    def _publishing(
        self, policy: PolicySource, base: int | None, backfill: bool, by: str | None, why: str | None
    ) -> Flow[int]:
        if self._knowledge.revision is None:
            raise PolicyError(
                "this Guard was given policy=, which is the truth for its process; to steer policies live, make it"
                " without policy= (initial_policy= publishes the first one) and publish"
            )
        apart = self._knowledge.shard_by
        command = publication(policy, base, by, why, apart)
        outcome = yield from publishing(command, self._clock, backfill=backfill, shard_by=apart)
        if not isinstance(outcome, Published):
            raise answers.refused(outcome)
        self._knowledge.learn_policy(outcome.policy)
        if not outcome.replayed:
            self._changed("publish", outcome.policy, None)
        return outcome.policy.revision


def _cap_named(cap: str | None) -> dict[str, Any]:
    return {} if cap is None else {"cap": checked_name(cap, "cap")}
