"""The sources that may pay for a call: the plan's included allowance, then the user's grants, each with a meter."""

from __future__ import annotations

from collections.abc import Iterator

from capguard.identity import Identity
from capguard.ledger import units
from capguard.ledger.caps import Leg, meter_key, scope_text
from capguard.ledger.sources import GRANT, INCLUDED
from capguard.ledger.windows import FOREVER_MS, Window, parse, resets_at
from capguard.policy.document import Included, Policy
from capguard.policy.profile import Credit, UserProfile

_RESERVED = "\x1f"  # no cap's id has a control character, so no cap shares a meter with a source


class Funding:
    """What pays on each plan of one policy."""

    def __init__(self, policy: Policy):
        self._included = {
            name: (plan.included, parse(plan.included.window, policy.timezone))
            for name, plan in policy.plans.items()
            if plan.included is not None
        }

    def unit(self, plan: str | None) -> str:
        """The unit in which a plan is funded: that of its allowance, else dollars."""
        return self._included[plan][0].unit if plan in self._included else "usd"

    def sources(
        self, identity: Identity, model: str | None, profile: UserProfile, now_ms: int, *, good_for_all: bool = False
    ) -> tuple[Leg, ...]:
        """What may pay for a call, in the order in which it pays. Grants in another unit than the plan's do not.

        With `good_for_all`, those for some features or models are there too: for looking at them.
        """
        unit = self.unit(identity.plan)
        included = self._included.get(identity.plan or "")
        first = [] if included is None else [*_allowance(*included, identity, now_ms)]
        credits = profile.credits_at(now_ms) if identity.user is not None else ()
        return (
            *first,
            *(
                credit_leg(credit, identity.user or "")
                for credit in credits
                if credit.unit == unit and (good_for_all or credit.pays_for(identity.feature, model))
            ),
        )

    def span(self, identity: Identity, now_ms: int) -> tuple[int, int]:
        """The period of the allowance that is on: it is issued afresh at its end."""
        included = self._included.get(identity.plan or "")
        if included is None:
            return 0, FOREVER_MS
        period = included[1].period(now_ms)
        return period.starts_at_ms, period.ends_at_ms


def _allowance(included: Included, window: Window, identity: Identity, now_ms: int) -> Iterator[Leg]:
    """The allowance of the period that is on; none where the call lacks a field that it is issued per."""
    values = tuple(identity.value(name) for name in included.per)
    if None in values:
        return
    period, ends = window.period(now_ms), resets_at(window, now_ms)
    yield Leg(
        meter=meter_key(_RESERVED + INCLUDED, included.unit, included.per, window.canonical, False, False, values),
        period=period.starts_at_ms,
        limit=units.parse(included.unit, included.amount, "included"),
        since=period.since_ms,
        ends=FOREVER_MS if ends is None else ends,
        cap=INCLUDED,
        unit=included.unit,
        action=INCLUDED,
        scope=scope_text(included.per, values),
    )


def credit_leg(credit: Credit, user: str) -> Leg:
    """A user's grant as a source: its meter, and what it can pay."""
    per, values = ("user", "grant"), (user, credit.id)
    return Leg(
        meter=meter_key(_RESERVED + GRANT, credit.unit, per, "lifetime", False, False, values),
        period=0,
        limit=credit.amount,
        since=0,
        ends=credit.until_ms,
        cap=credit.id,
        unit=credit.unit,
        action=GRANT,
        scope=scope_text(per, values),
    )
