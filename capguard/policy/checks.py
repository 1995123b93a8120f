"""What must hold over a whole document: names that are defined, ids that are unique, downgrades that end.

The checks read the document as written, so that they find what they can where other parts of it are wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from capguard.errors import Finding
from capguard.ledger import units
from capguard.policy.caprules import cap_rules, merged
from capguard.policy.downgrade import MAX_CANDIDATES, chain_from
from capguard.policy.findings import did_you_mean, joined, listed, place_of, shown
from capguard.policy.outline import Outline


def document_findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Findings between the parts of a document."""
    outline = Outline.of(data)
    yield from dict.fromkeys(finding for check in _CHECKS for finding in check(outline))


def _names(place: str, name: object, known: Collection[str], what: str) -> Iterator[Finding]:
    """One finding if `name` is text and none of `known`."""
    if isinstance(name, str) and name not in known:
        found = f"unknown {what} {shown(name)}{did_you_mean(name, known)}"
        yield Finding(place, found, listed(known) or f"none, there is no {what}")


def _plans(doc: Outline) -> Iterator[Finding]:
    yield from _names("default_plan", doc.default_plan, doc.plans, "plan")
    for user in doc.users:
        yield from _names(f"{user.place}.plan", user.plan, doc.plans, "plan")


def _units(doc: Outline) -> Iterator[Finding]:
    known = [*units.BUILT_IN, *doc.units]
    for scope in doc.scopes:
        for row in scope.rows:
            yield from _names(f"{row.place}.unit", row.cap.get("unit"), known, "unit")
    for name, plan in doc.plans.items():
        if plan.included is not None:
            yield from _names(f"{place_of(['plans', name])}.included.unit", plan.included.get("unit"), known, "unit")


def _own_units(doc: Outline) -> Iterator[Finding]:
    for name, models in doc.units.items():
        place = place_of(["units", name])
        if name in units.BUILT_IN:
            yield Finding(place, f"{name} is built in", "a name of your own")
        if models == {}:
            yield Finding(place, "no rates", 'rates by model, "*" for every model')


def _ids(doc: Outline) -> Iterator[Finding]:
    everybodys = {row.id for row in doc.everybody.rows if row.id is not None}
    for scope in doc.scopes:
        ids = Counter(row.id for row in scope.rows if row.id is not None)
        for row in scope.rows:
            if row.id is not None and ids[row.id] > 1:
                ids[row.id] = 0  # told once
                yield Finding(f"{row.place}.id", f"{shown(row.id)} is used twice here", "each id once")
            if scope is not doc.everybody and row.id in everybodys:
                found = f"{shown(row.id)} is also the id of a cap for everybody"
                yield Finding(f"{row.place}.id", found, "an id that [[caps]] does not use")


def _downgrades(doc: Outline) -> Iterator[Finding]:
    """Every chain ends. A pattern may match its own target: the target is the end then."""
    for pattern, target in doc.downgrade.items():
        place, chain = place_of(["downgrade", pattern]), chain_from(doc.downgrade, target)
        if pattern == target:
            yield Finding(place, f"{shown(target)} is downgraded to itself", "another model")
        elif chain[-1] in chain[:-1]:
            yield Finding(place, f"a circle: {' -> '.join(map(shown, chain))}", "downgrades that end")
        elif len(chain) >= MAX_CANDIDATES:
            yield Finding(place, f"a chain of {len(chain) + 1} models", f"at most {MAX_CANDIDATES}")


def _funding(doc: Outline) -> Iterator[Finding]:
    """`overage_only` and `ignore_grants` speak of what paid, and that is counted in the plan's unit alone."""
    for scope, row, cap in doc.caps():
        unit, funded = cap.get("unit", "usd"), doc.funding_units(scope)
        if isinstance(unit, str) and funded and funded != {unit}:
            found = f"on {unit}, while included and grants are in {' and '.join(sorted(funded))}"
            for field in ("overage_only", "ignore_grants"):
                if cap.get(field) is True:
                    yield Finding(
                        f"{row.place}.{field}",
                        f"{field} {found}",
                        "the unit of the included allowance, usd without one",
                    )


def _clamps(doc: Outline) -> Iterator[Finding]:
    for _, row, cap in doc.caps():
        unit = cap.get("unit")
        if cap.get("action") == "clamp" and isinstance(unit, str) and doc.lacks_output(unit):
            found = f"clamp on {unit}, which a lower output limit does not change"
            yield Finding(f"{row.place}.action", found, "clamp on a unit with a rate for output")


def _changes(doc: Outline) -> Iterator[Finding]:
    """Every cap of a user is a cap once it is laid over the plan's."""
    for user in doc.users:
        for row in user.rows:
            bases = doc.overridden(user, row)
            if not bases and row.id is not None and row.cap.get("limit") is None:
                where = f"plan {shown(user.plan)}" if isinstance(user.plan, str) else "any plan"
                found = f"missing, and no cap {shown(row.id)} in {where} to change"
                yield Finding(f"{row.place}.limit", found, "a limit, or the id of a cap of the plan")
            for base in bases or [{}]:
                own = set(cap_rules(base))  # told where they stand
                for each in cap_rules(merged(base, row.cap)):
                    if each not in own:
                        yield Finding(joined(row.place, each.place), each.found, each.allowed)


_CHECKS: tuple[Callable[[Outline], Iterator[Finding]], ...] = (
    _plans,
    _units,
    _own_units,
    _ids,
    _changes,
    _downgrades,
    _funding,
    _clamps,
)
