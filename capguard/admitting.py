"""The bound first: a long prompt is counted only where it is close whether it fits.

The backend is asked, holding nothing, whether what the call can cost at most would pass every cap unnoticed. If so,
that is held. If even what it costs at least would be refused, it is refused. Else its input is counted. A bound that
is several times too high so never warns, steers, clamps or refuses where the call itself would not.
"""

from __future__ import annotations

from collections.abc import Callable

from capguard.arguments import Request
from capguard.ledger.caps import Amounts
from capguard.ledger.commands import Reserve
from capguard.ledger.flows import Flow, Learn, reserving
from capguard.ledger.outcomes import Denied, Held, Outcome, Refused
from capguard.planner import Draft

BOUND_FROM = 4_096
"""Characters of a prompt from which on asking a backend is quicker than counting."""

SHARE = 8
"""A bound holds at most one part in so many of any cap; a call above it is counted, lest it keeps others out."""

_TELLING = ("warn", "dry_run")


class Sizing:
    """How one call is sized: by its bound until that is not enough, then by its count, for good.

    `make(now_ms, waits, bound)` drafts and builds the command; `drafted()` is the draft that it made last; `learn` and
    `tell` take in what a backend answers.
    """

    def __init__(
        self,
        request: Request,
        make: Callable[[int | None, bool, bool], Reserve],
        drafted: Callable[[], Draft],
        learn: Learn,
        tell: Callable[[Outcome], None],
    ):
        self._make = make
        self._drafted = drafted
        self._learn = learn
        self._tell = tell
        self._by_bound = is_long(request)

    def attempt(self, *, check_only: bool, waits: bool, book: bool) -> Flow[Outcome]:
        """One attempt to reserve, or to see whether it would work. What is booked at once is counted."""
        self._by_bound = self._by_bound and not book
        if self._by_bound:
            seen = yield from self._ask(check_only=True, waits=waits)
            self._by_bound = passes_unnoticed(seen, self._drafted()) or is_hopeless(seen, self._drafted())
            if self._by_bound and check_only:
                return seen
        outcome = yield from self._ask(check_only=check_only, waits=waits)
        if self._by_bound and isinstance(outcome, Denied) and not is_hopeless(outcome, self._drafted()):
            self._by_bound = False  # others took the room since it was seen
            outcome = yield from self._ask(check_only=check_only, waits=waits)
        return outcome

    def _ask(self, *, check_only: bool, waits: bool) -> Flow[Outcome]:
        def build(now_ms: int | None) -> Reserve:
            return self._make(now_ms, waits, self._by_bound)

        outcome = yield from reserving(build, self._learn, check_only=check_only)
        self._tell(outcome)
        return outcome


def is_long(request: Request) -> bool:
    """Whether asking first by the bound is worth it."""
    return request.known is None and request.prompt.characters >= BOUND_FROM


def passes_unnoticed(seen: Outcome, draft: Draft) -> bool:
    """Whether no cap has anything to say of the bound, and none is filled by it by more than its share."""
    if not isinstance(seen, Held) or seen.passed or seen.chosen or seen.output is not None:
        return isinstance(seen, Held) and seen.replayed
    held, legs = draft.options[0].held, seen.record.made.legs
    return all(held.get(leg.unit, 0) * SHARE <= leg.limit for leg in legs if leg.action not in _TELLING)


def is_hopeless(seen: Outcome, draft: Draft) -> bool:
    """Whether every cap that refuses the bound refuses the call at its least too, for the same reason."""
    if not isinstance(seen, Denied):
        return False
    option = next(
        (option for option, model in zip(draft.options, draft.route.models, strict=True) if model == seen.model)
    )
    if option.usage is None:
        return True
    least = option.least(draft.request)
    return all(_refuses_the_least(miss, least) for miss in seen.refused)


def _refuses_the_least(miss: Refused, least: Amounts) -> bool:
    """Spent for good, on a cap that neither waits nor clamps nor leaves out what somebody else paid."""
    leg, shortest = miss.leg, least.get(miss.leg.unit, 0)
    plain = leg.action == "block" and not leg.overage_only and not leg.ignore_grants
    too_big = shortest > leg.limit or miss.amount <= leg.limit
    return plain and too_big and miss.meter.settled + shortest > leg.limit
