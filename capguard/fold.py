"""The journal folded once into a report: memory per group and per call that may still change, never per entry."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from capguard.ledger.caps import Amounts
from capguard.ledger.money import dollars
from capguard.ledger.outcomes import Line
from capguard.policy.document import Policy
from capguard.policy.fields import IDENTITY, TAG, is_field
from capguard.readable import instant
from capguard.report import WORST, PlanEconomics, Report, ReportRow, ShadowRow, UnderWater

_WATCHING = ("dry_run", "warn")
_FORGOTTEN_AFTER = 2
"""An ended call may be booked late for as long as its id is remembered; so many retentions are surely enough."""


@dataclass(slots=True)
class _Sums:
    """One group as it grows; amounts in nano-dollars."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    billed: int = 0
    held: int = 0
    open: int = 0

    def book(self, amounts: Amounts) -> None:
        self.calls += 1
        self.input_tokens += amounts.get("input_tokens", 0)
        self.output_tokens += amounts.get("output_tokens", 0)
        self.cost += amounts.get("usd", 0)
        self.billed += amounts.get("billed", 0)

    def hold(self, amounts: Amounts) -> None:
        self.open += 1
        self.held += amounts.get("usd", 0)

    def row(self, key: str | None, economics: PlanEconomics | None = None) -> ReportRow:
        return ReportRow(
            key,
            self.calls,
            self.input_tokens,
            self.output_tokens,
            cost=dollars(self.cost),
            billed=dollars(self.billed),
            held=dollars(self.held),
            open=self.open,
            economics=economics,
        )


@dataclass(slots=True)
class _Watched:
    """What one watching cap would have blocked."""

    calls: int = 0
    cost: int = 0
    users: set[str | None] = field(default_factory=set)


@dataclass(slots=True)
class _Call:
    """A call that may still change. `amounts` are what it holds, or what is booked for it, None where nothing is."""

    key: str | None
    plan: str | None
    user: str | None
    watching: tuple[tuple[str, str], ...]
    retention_ms: int
    amounts: Amounts | None
    held: bool = True
    final_ms: int = 0


class Fold:
    """Takes in the journal from `since_ms` on, page by page, and makes the report.

    A call belongs to the time at which it was reserved, as its caps have it, and counts as it was booked last: settled
    over expired; a release counts nothing. So pages after `until_ms` are read until nothing can change any more. Raises
    ValueError for a `by` that no report knows.
    """

    def __init__(self, policy: Policy, by: str, since_ms: int, until_ms: int):
        if not isinstance(by, str) or not (by == "model" or is_field(by, IDENTITY)):
            raise ValueError(f"by: {by!r:.60} is refused; allowed: {', '.join(IDENTITY)}, model and {TAG}<name>")
        self._policy = policy
        self._by = by
        self._since_ms, self._until_ms = since_ms, until_ms
        self._groups: dict[str | None, _Sums] = defaultdict(_Sums)
        self._total = _Sums()
        self._spent: dict[str | None, dict[str, int]] = defaultdict(dict)
        self._watched = {named: _Watched() for named in _watching_caps(policy)}
        self._calls: dict[str, _Call] = {}
        self._ended: deque[tuple[int, str]] = deque()
        self._now_ms = since_ms

    def add(self, lines: Iterable[Line]) -> None:
        """Take in lines that follow those before."""
        for line in lines:
            self._now_ms = line.at_ms
            if line.kind in ("reserve", "book") and line.at_ms < self._until_ms:
                self._made(line)
            elif line.id in self._calls and line.kind in ("settle", "expire", "release"):
                self._changed(line)
        self._forget()

    @property
    def is_complete(self) -> bool:
        """Whether no later line can change the report."""
        return self._now_ms >= self._until_ms and not self._calls

    def report(self) -> Report:
        """What was taken in, with the calls that are open as they stand."""
        for call in self._calls.values():
            self._count(call)
        self._calls.clear()
        since, until = instant(self._since_ms), instant(self._until_ms)
        assert since is not None
        assert until is not None
        groups = sorted(self._groups.items(), key=lambda each: (-each[1].cost, each[0] is None, each[0] or ""))
        rows = [sums.row(key, self._economics(key, sums) if self._by == "plan" else None) for key, sums in groups]
        shadow = [
            ShadowRow(cap, action, seen.calls, dollars(seen.cost), len(seen.users))
            for (cap, action), seen in self._watched.items()
        ]
        return Report(self._by, since, until, tuple(rows), self._total.row(None), tuple(shadow))

    def _made(self, line: Line) -> None:
        body = line.body
        identity, facts = body["identity"], body["facts"]
        key = body["model"] if self._by == "model" else identity.get(self._by)
        watching = tuple((cap, action) for action in _WATCHING for cap in dict.fromkeys(facts.get(action, ())))
        call = _Call(key, identity.get("plan"), line.user, watching, body["retention_ms"], body["held"])
        if line.user is not None:
            self._spent[call.plan].setdefault(line.user, 0)
        if line.kind == "book":
            call.held = False
            self._count(call)
        else:
            self._calls[line.id] = call

    def _changed(self, line: Line) -> None:
        call = self._calls[line.id]
        call.held = False
        call.amounts = None if line.kind == "release" else line.body["amounts"]
        if line.kind == "settle":
            self._count(self._calls.pop(line.id))
        else:
            call.final_ms = line.at_ms + _FORGOTTEN_AFTER * call.retention_ms
            self._ended.append((call.final_ms, line.id))

    def _forget(self) -> None:
        """Count the ended calls that can be booked no more."""
        while self._ended and self._ended[0][0] <= self._now_ms:
            final_ms, id = self._ended.popleft()
            if id in self._calls and self._calls[id].final_ms == final_ms:
                self._count(self._calls.pop(id))

    def _count(self, call: _Call) -> None:
        """Add a call to its groups, for good."""
        if call.amounts is None:
            return
        for sums in (self._groups[call.key], self._total):
            if call.held:
                sums.hold(call.amounts)
            else:
                sums.book(call.amounts)
        if not call.held:
            self._spend(call, call.amounts.get("usd", 0))

    def _spend(self, call: _Call, cost: int) -> None:
        if call.user is not None:
            self._spent[call.plan][call.user] += cost
        for named in call.watching:
            seen = self._watched.setdefault(named, _Watched())
            seen.calls += 1
            seen.cost += cost
            seen.users.add(call.user)

    def _economics(self, name: str | None, sums: _Sums) -> PlanEconomics:
        spent = self._spent[name]
        plan = self._policy.plans.get(name or "")
        price = None if plan is None else plan.price
        if price is None:
            return PlanEconomics(len(spent), None, None, None, 0, ())
        costs = ((user, dollars(cost)) for user, cost in spent.items())
        losses = sorted(
            (UnderWater(user, cost, cost - price) for user, cost in costs if cost > price),
            key=lambda each: (-each.loss, each.user),
        )
        revenue = _normal(price * len(spent))
        return PlanEconomics(
            len(spent), price, revenue, revenue - dollars(sums.cost), len(losses), tuple(losses[:WORST])
        )


def _watching_caps(policy: Policy) -> Iterator[tuple[str, str]]:
    """The caps of a policy that only watch: they have a row also where they saw nothing."""
    plans: Mapping[str, Any] = policy.plans
    for cap in (*(cap for plan in plans.values() for cap in plan.caps), *policy.caps):
        if cap.action in _WATCHING:
            yield cap.id, cap.action


def _normal(number: Decimal) -> Decimal:
    return number.normalize() + 0
