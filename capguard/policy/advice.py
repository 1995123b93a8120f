"""What is allowed and probably not meant: advice on a policy that is accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from capguard.errors import Finding
from capguard.ledger.caps import ENFORCING
from capguard.ledger.units import COUNTS
from capguard.policy.document import Cap, Policy
from capguard.policy.findings import indexed, joined, listed, place_of, shown
from capguard.policy.globs import best_match


def advice(policy: Policy) -> list[Finding]:
    """Warnings about `policy`: `found` is what may surprise, `allowed` what would help. None of them refuses it."""
    return [finding for advise in _ADVICE for finding in advise(policy)]


def _scopes(policy: Policy) -> Iterator[tuple[str, Sequence[Cap]]]:
    """The caps for everybody and those of each plan, each with their place."""
    yield "", policy.caps
    yield from ((place_of(["plans", name]), plan.caps) for name, plan in policy.plans.items())


def _backstops(policy: Policy) -> Iterator[Finding]:
    for place, caps in _scopes(policy):
        for index, cap in enumerate(caps):
            if cap.action == "downgrade" and cap.otherwise == "pass" and not _has_backstop(cap, [*caps, *policy.caps]):
                found = "a downgrade with nothing that blocks behind it: calls on the cheapest model go on for ever"
                helps = f"a cap in {cap.unit} with action block, clamp or throttle and a limit of {cap.limit} or more"
                yield Finding(joined(place, f"caps{indexed(index, cap)}"), found, helps)


def _has_backstop(cap: Cap, others: Sequence[Cap]) -> bool:
    return any(other.action in ENFORCING and other.unit == cap.unit and other.limit >= cap.limit for other in others)


def _targets(policy: Policy) -> Iterator[Finding]:
    for place, caps in _scopes(policy):
        for index, cap in enumerate(caps):
            if cap.action == "downgrade" and cap.to is None and not policy.downgrade:
                found = "a downgrade that knows no cheaper model"
                yield Finding(joined(place, f"caps{indexed(index, cap)}"), found, "to = ... or a table [downgrade]")


def _unpriced(policy: Policy) -> Iterator[Finding]:
    if policy.failure.unknown_model != "allow":
        return
    if not any(cap.unit in COUNTS and cap.action in ENFORCING for _, caps in _scopes(policy) for cap in caps):
        found = "models without a price pass every cap in usd"
        yield Finding("failure.unknown_model", found, "a cap in tokens or requests, or unknown_model = 'ceiling'")


def _unnoticed(policy: Policy) -> Iterator[Finding]:
    """Where an allowance or a grant pays, and every cap counts the call all the same."""
    for name, plan in policy.plans.items():
        caps, place = [*plan.caps, *policy.caps], f"{place_of(['plans', name])}.included"
        if plan.included and not any(cap.overage_only for cap in caps):
            found = "no cap takes notice of what is included: every cap counts it too"
            yield Finding(place, found, "overage_only = true on a cap")
        elif plan.included and not any(cap.ignore_grants for cap in caps):
            found = "no cap takes notice of grants: whoever is given credit is refused at the same limits"
            yield Finding(place, found, "ignore_grants = true on a cap, where users are given credit")


def _unreachable(policy: Policy) -> Iterator[Finding]:
    for place, caps in _scopes(policy):
        for index, cap in enumerate(caps):
            for pattern in (cap.match.plan or ()) if cap.match else ():
                if not any(best_match([pattern], name) for name in policy.plans):
                    where = joined(place, f"caps{indexed(index, cap)}.match.plan")
                    yield Finding(where, f"{shown(pattern)} matches no plan", listed(policy.plans) or "a plan")


def _toothless(policy: Policy) -> Iterator[Finding]:
    everybody = any(_refuses(cap) for cap in policy.caps)
    scopes: list[tuple[str, Sequence[Cap]]] = list(_scopes(policy))
    for place, caps in scopes:
        if caps and not everybody and not any(_refuses(cap) for cap in caps) and (place or not policy.plans):
            yield Finding(place or "caps", "caps that only tell: nothing here ever refuses a call", "a cap that blocks")


def _refuses(cap: Cap) -> bool:
    return cap.action in ENFORCING or (cap.action == "downgrade" and cap.otherwise == "block")


_ADVICE: tuple[Callable[[Policy], Iterator[Finding]], ...] = (
    _backstops,
    _targets,
    _unpriced,
    _unnoticed,
    _unreachable,
    _toothless,
)
