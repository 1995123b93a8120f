"""How the demo ended: what the caps saved, who is near a limit, and the numbers that must agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from capguard.cli import show
from capguard.cli.demo.tally import Tally
from capguard.cli.demo.traffic import ATTRIBUTION, Ask
from capguard.cli.verify import to_dict as verification_to_dict
from capguard.guard import Guard
from capguard.journal import Verification
from capguard.ledger.caps import ENFORCING
from capguard.ledger.money import dollars
from capguard.states import CapState

_NEAREST = 8
_AMOUNTS = ("without_caps", "saved_by_blocking", "saved_by_downgrading")


@dataclass(frozen=True, slots=True)
class Standing:
    """One user and the fullest of the caps that refuse."""

    user: str
    plan: str
    cap: CapState


@dataclass(frozen=True, slots=True)
class Report:
    """The end of one demo; amounts are dollars. `over` are caps beyond their limit that no overrun explains."""

    requests: int
    seconds: float
    tally: Tally
    provider_calls: int
    without_caps: Decimal
    saved_by_blocking: Decimal
    saved_by_downgrading: Decimal
    nearest: tuple[Standing, ...]
    over: tuple[CapState, ...]
    verification: Verification

    @property
    def replayed(self) -> int:
        return len(self.tally.allowed) + len(self.tally.blocked)

    @property
    def checks(self) -> dict[str, bool]:
        """What must hold, whatever the machine did."""
        spent, saved = self.tally.total("spent"), self.saved_by_blocking + self.saved_by_downgrading
        return {
            "the provider saw exactly the calls that were allowed": self.provider_calls == len(self.tally.allowed),
            "every meter is what its entries say": bool(self.verification),
            "no cap is over its limit": not self.over,
            "nothing is held any more": not self.tally.total("held") and not self.verification.open,
            "spent and saved add up to the cost without caps": spent + saved == self.without_caps,
        }

    def __bool__(self) -> bool:
        return all(self.checks.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: amounts as text."""
        tally = self.tally
        return {
            "ok": bool(self),
            "checks": self.checks,
            "requests": self.requests,
            "replayed": self.replayed,
            "seconds": round(self.seconds, 1),
            "allowed": len(tally.allowed),
            "provider_calls": self.provider_calls,
            **{name: tally.total(name) for name in ("blocked", "downgraded", "warned")},
            "spent": show.plain(tally.total("spent")),
            **{name: show.plain(getattr(self, name)) for name in _AMOUNTS},
            "plans": [row.to_dict() for row in tally.rows.values()],
            "nearest": [{"user": one.user, "plan": one.plan, **one.cap.to_dict()} for one in self.nearest],
            "verify": verification_to_dict(self.verification),
            "attribution": ATTRIBUTION,
        }


def report(guard: Guard, todo: Sequence[Ask], tally: Tally, provider_calls: int, seconds: float) -> Report:
    """Everything that the end shows, read from the ledger after the last call."""
    asked = {ask.id: ask for ask in todo}
    stopped = sum(ask.cost() for ask in tally.blocked)
    standings = list(_standings(guard, tally))
    cheaper = [(asked[id].cost(), call.spent) for id, call in tally.allowed.items() if call.downgraded]
    let_through = sum(asked[id].cost() for id in tally.allowed)
    return Report(
        requests=len(todo),
        seconds=seconds,
        tally=tally,
        provider_calls=provider_calls,
        without_caps=dollars(stopped + let_through),
        saved_by_blocking=dollars(stopped),
        saved_by_downgrading=sum((dollars(cost) - spent for cost, spent in cheaper), Decimal(0)),
        nearest=_nearest(standings),
        over=tuple(one.cap for one in standings if one.cap.settled + one.cap.held - one.cap.overrun > one.cap.limit),
        verification=guard.verify(),
    )


def _standings(guard: Guard, tally: Tally) -> Iterator[Standing]:
    """Every cap that refuses, as each user sees it."""
    for user, plan in tally.users():
        for cap in guard.status(user=user, plan=plan).caps:
            if cap.action in ENFORCING:
                yield Standing(user, plan, cap)


def _nearest(standings: Sequence[Standing]) -> tuple[Standing, ...]:
    """The users nearest to a cap of their own."""
    own = [one for one in standings if "user" in one.cap.scope]
    return tuple(sorted(own, key=lambda one: one.cap.fraction, reverse=True)[:_NEAREST])
