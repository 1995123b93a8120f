"""Caps that do not stand in the policy as they hold: changes for one user laid over it, caps that one call brings."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from capguard.errors import Finding, PolicyError
from capguard.ledger.units import BUILT_IN
from capguard.policy.base import written
from capguard.policy.caprules import merged
from capguard.policy.document import Cap, CapChange, Policy
from capguard.policy.findings import joined, listed, shown

Change = Cap | CapChange
"""What was said of one user at run time: a change of the policy's cap of that id, or an additional cap."""

log = logging.getLogger("capguard")


def funding_unit(policy: Policy, plan: str | None) -> str:
    """The unit in which a plan is funded: that of its allowance, else dollars."""
    included = policy.plans[plan].included if plan in policy.plans else None
    return "usd" if included is None else included.unit


def overridden(policy: Policy, plan: str | None, user: str | None) -> list[Cap]:
    """The plan's caps with what the file changes for the user, then the caps that only this user has."""
    base = policy.plans[plan].caps if plan is not None else ()
    own = policy.users[user].caps if user is not None and user in policy.users else ()
    by_id = {change.id: change for change in own}
    changed = [by_id.pop(cap.id).applied_to(cap) if cap.id in by_id else cap for cap in base]
    return [*changed, *(change.applied_to(None) for change in by_id.values() if change.limit is not None)]


def laid_over(caps: Iterable[Cap], changes: Sequence[Change]) -> list[Cap]:
    """`caps` with each change made at run time merged into the cap of its id, then the caps that are additional.

    A change of a cap that does not stand here belongs to another plan. One that fitted when it was made and does not
    fit the cap of today's policy is left out, loudly: the policy holds.
    """
    by_id = {change.id: change for change in changes}
    changed = [_changed(cap, by_id.pop(cap.id)) if cap.id in by_id else cap for cap in caps]
    return [*changed, *(change for change in by_id.values() if isinstance(change, Cap))]


def _changed(cap: Cap, change: Change) -> Cap:
    try:
        return _made(cap, change)
    except PolicyError as error:
        log.error("capguard: the change of cap %r does not fit the cap any more and is left out: %s", cap.id, error)
        return cap


def check_override(policy: Policy, user: str, change: Change) -> list[Cap]:
    """The caps that a change makes, on whichever plan.

    Raises PolicyError for a change that makes no cap on some plan, or that changes none and is no cap itself.
    """
    caps_made, known = list[Cap](), set[str]()
    for plan in policy.plans or (None,):
        caps = [*overridden(policy, plan, user), *policy.caps]
        cap = next((cap for cap in caps if cap.id == change.id), None)
        known |= {cap.id for cap in caps}
        if cap is None and not isinstance(change, Cap):
            continue
        try:
            made = _made(cap, change)
        except PolicyError as error:
            raise PolicyError([_placed(change.id, finding) for finding in error.findings]) from None
        if findings := [*_unknown_unit(policy, made), *_unfunded(policy, plan, made)]:
            raise PolicyError([_placed(made.id, finding) for finding in findings])
        caps_made.append(made)
    if not caps_made:
        found = f"no cap {shown(change.id)} to change"
        raise PolicyError([Finding("override", found, f"{listed(known) or 'none'}; caps=[Cap(...)] adds one")])
    return caps_made


def extra_caps(policy: Policy, plan: str | None, standing: Collection[str], extra: Iterable[Cap]) -> list[Cap]:
    """The caps that one call brings, each once, beside those with the ids `standing`.

    Raises PolicyError for an id that is taken, since both would count on one meter, and for a cap that leaves out what
    is paid in another unit than its own.
    """
    kept: list[Cap] = []
    for cap in extra:
        if cap in kept:
            continue
        if cap.id in standing:
            raise PolicyError([Finding("caps", f"{cap.id} is in the policy already for this call", "another id")])
        if cap.id in {other.id for other in kept}:
            raise PolicyError([Finding("caps", f"{cap.id} stands twice, differently", "another id")])
        if findings := [*_unfunded(policy, plan, cap)]:
            raise PolicyError([_placed(cap.id, finding) for finding in findings])
        kept.append(cap)
    return kept


def _made(cap: Cap | None, change: Change) -> Cap:
    """`cap` with what `change` says; without one, the additional cap. Raises PolicyError."""
    return Cap(**merged(written(cap) if cap is not None else {}, written(change)))


def _placed(id: str, finding: Finding) -> Finding:
    return replace(finding, place=joined(f"cap {shown(id)}", finding.place) if finding.place else f"cap {shown(id)}")


def _unknown_unit(policy: Policy, cap: Cap) -> Iterator[Finding]:
    known = (*BUILT_IN, *policy.units)
    if cap.unit not in known:
        yield Finding("unit", f"unknown unit {shown(cap.unit)}", listed(known))


def _unfunded(policy: Policy, plan: str | None, cap: Cap) -> Iterator[Finding]:
    funded = funding_unit(policy, plan)
    for field in ("overage_only", "ignore_grants"):
        if getattr(cap, field) and cap.unit != funded:
            yield Finding(field, f"{field} on {cap.unit}, while included and grants are in {funded}", funded)
