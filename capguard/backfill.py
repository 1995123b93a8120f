"""What the meters of new caps would show by now: the journal of their current periods, folded under the new policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from capguard.identity import Identity
from capguard.ledger.caps import Amounts, CapRule, Leg
from capguard.ledger.commands import Backfill, Journal
from capguard.ledger.outcomes import Line
from capguard.ledger.sources import GRANT, INCLUDED, counted
from capguard.policy.document import Policy
from capguard.policy.resolve import Rulebook, Scoped, apply


@dataclass(slots=True)
class _Call:
    """A call as it is booked so far. `sources` are the meters that may pay for it, `paid` what they did."""

    identity: Identity
    model: str | None
    at_ms: int
    sources: dict[tuple[str, int], str]
    unit: str | None
    amounts: Amounts = field(default_factory=dict)
    paid: dict[str, int] = field(default_factory=lambda: {INCLUDED: 0, GRANT: 0})

    def book(self, amounts: Amounts, moves: Iterable[tuple[str, int, int]]) -> None:
        self.amounts = amounts
        for meter, period, settled in moves:
            if kind := self.sources.get((meter, period)):
                self.paid[kind] += settled


class Backfilling:
    """A fold over the journal for the caps that `new` has and `old` has not. Calls in flight are not in it."""

    def __init__(self, old: Policy, new: Policy, now_ms: int):
        before = {rule.kind for rule in Rulebook(old).rules()}
        self._rulebook = Rulebook(new)
        self._since = {
            rule.kind: rule.window.period(now_ms).since_ms for rule in self._rulebook.rules() if rule.kind not in before
        }
        self._since_ms = min(self._since.values(), default=now_ms)
        self._last = 0
        self._calls: dict[str, _Call] = {}
        self._sums: dict[tuple[str, int], tuple[Leg, int]] = {}

    def __bool__(self) -> bool:
        """Whether there is a new cap at all."""
        return bool(self._since)

    @property
    def page(self) -> Journal:
        """What to read next."""
        return Journal(self._last, since_ms=self._since_ms)

    def add(self, lines: Iterable[Line]) -> None:
        """Take in lines that follow those before."""
        for line in lines:
            self._last = line.seq
            if line.kind in ("reserve", "book"):
                self._made(line)
            elif line.id in self._calls and line.kind in ("settle", "expire", "release"):
                moves = [(meter, period, settled) for meter, period, settled, _, _ in line.body["moves"]]
                self._calls[line.id].book(line.body["amounts"], moves)
                if line.kind == "settle":
                    self._count(self._calls.pop(line.id), self._sums)

    def command(self) -> Backfill:
        """What the new meters are to show, if nothing was booked meanwhile."""
        sums = dict(self._sums)
        for call in self._calls.values():
            self._count(call, sums)
        legs, shares = zip(*sums.values(), strict=True) if sums else ((), ())
        return Backfill(self._last, self._since_ms, tuple(legs), tuple(shares))

    def _made(self, line: Line) -> None:
        legs = [Leg(*leg) for leg in line.body["sources"]]
        sources = {(leg.meter, leg.period): leg.action for leg in legs}
        unit = legs[0].unit if legs else None
        call = _Call(_identity(line.body["identity"]), line.body["model"], line.at_ms, sources, unit)
        if line.kind == "reserve":
            self._calls[line.id] = call
            return
        drawn = line.body["shares"][len(line.body["legs"]) :]
        call.book(line.body["held"], [(leg.meter, leg.period, draw) for leg, draw in zip(legs, drawn, strict=True)])
        self._count(call, self._sums)

    def _count(self, call: _Call, sums: dict[tuple[str, int], tuple[Leg, int]]) -> None:
        for leg in self._legs(call):
            share = counted(leg, call.amounts, call.unit, call.paid[INCLUDED], call.paid[GRANT])
            if share:
                before = sums.get((leg.meter, leg.period), (leg, 0))[1]
                sums[leg.meter, leg.period] = leg, before + share

    def _legs(self, call: _Call) -> Iterator[Leg]:
        """The legs that the call would have put on new caps, in periods that still count."""
        policy = self._rulebook.policy
        plan = call.identity.plan if call.identity.plan in policy.plans else policy.default_plan
        scoped = [each for each in self._rulebook.caps(plan, call.identity.user) if self._counts(each, call)]
        return iter(apply(scoped, call.identity, call.model, {}, call.at_ms, anonymous=True, looking=True).legs)

    def _counts(self, cap: Scoped, call: _Call) -> bool:
        since = self._since.get(cap.rule.kind)
        return since is not None and _starts(cap.rule, call) >= since and cap.applies(call.identity, call.model)


def _starts(rule: CapRule, call: _Call) -> int:
    return rule.window.period(call.at_ms).starts_at_ms


def _identity(named: Mapping[str, str]) -> Identity:
    """An identity as the journal keeps it."""
    tags = {name.removeprefix("tag:"): value for name, value in named.items() if name.startswith("tag:")}
    return Identity(**{name: value for name, value in named.items() if not name.startswith("tag:")}, tags=tags)
