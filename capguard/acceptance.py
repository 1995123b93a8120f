"""What a policy must be for a Guard to take it, beyond its grammar: downgrades lead to cheaper models, and end."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from decimal import Decimal
from fnmatch import fnmatchcase
from itertools import chain

from capguard.errors import Finding, PolicyError
from capguard.policy.document import Cap, Policy
from capguard.policy.downgrade import chain_from
from capguard.policy.findings import indexed, joined, place_of, shown
from capguard.policy.globs import best_match
from capguard.policy.load import load_policy
from capguard.pricing.book import bundled
from capguard.pricing.price import Price
from capguard.tariffs import Tariffs

_PICO_PER_MILLION = 10**6  # pico-dollars per token, as dollars per million tokens


Known = Callable[[str], Price | None]
"""The price of a model; None where nobody knows one."""


def accepted(source: object, shard_by: str = "") -> Policy:
    """The policy in `source`, as `load_policy` takes it, for a ledger that is sharded by this field, if by any.

    Raises PolicyError also for downgrades to dearer models, and for caps and allowances that are wider than a shard.
    """
    policy = load_policy(source)
    known = Tariffs(policy).known
    findings = [*_of_the_map(policy, known), *_wider(policy, shard_by)]
    findings += [finding for place, cap in _caps(policy) for finding in target_findings(policy, known, cap, place)]
    if findings:
        raise PolicyError([*dict.fromkeys(findings)])
    return policy


def refuse_wider(caps: Iterable[Cap], shard_by: str) -> None:
    """Raise PolicyError for caps, brought in beside a policy, that count what is in several shards."""
    if findings := [found for cap in caps for found in _wider_cap(f"cap {shown(cap.id)}", cap.per, shard_by)]:
        raise PolicyError(findings)


def _wider(policy: Policy, shard_by: str) -> Iterator[Finding]:
    for place, cap in _caps(policy):
        yield from _wider_cap(place, cap.per, shard_by)
    for name, plan in policy.plans.items():
        if plan.included is not None:
            yield from _wider_cap(joined(place_of(["plans", name]), "included"), plan.included.per, shard_by)


def _wider_cap(place: str, per: Collection[str], shard_by: str) -> Iterator[Finding]:
    if shard_by and shard_by not in per:
        found = f"per = {json.dumps(list(per))}, while the books are apart by {shard_by}"
        yield Finding(f"{place}.per", found, f'{shard_by} among the fields, as in ["{shard_by}"]')


def target_findings(policy: Policy, known: Known, cap: Cap, place: str = "") -> Iterator[Finding]:
    """What is wrong with the model that `cap`, of `policy` or brought in beside it, leads to: dearer, or a circle."""
    if cap.action != "downgrade" or cap.to is None:
        return
    place, on = place or f"cap {shown(cap.id)}", (cap.match and cap.match.model) or ()
    further = chain_from(policy.downgrade, cap.to)
    for pattern in on:
        if pattern in further:
            way = [pattern, *further[: further.index(pattern) + 1]]
            yield Finding(f"{place}.to", f"a circle: {' -> '.join(map(shown, way))}", "downgrades that end")
        else:
            yield from _judged(f"{place}.to", _served(pattern, policy), cap.to, known)


def _of_the_map(policy: Policy, known: Known) -> Iterator[Finding]:
    for pattern, target in policy.downgrade.items():
        served = [model for model in _served(pattern, policy) if best_match(policy.downgrade, model) == pattern]
        yield from _judged(place_of(["downgrade", pattern]), served, target, known)


def _served(pattern: str, policy: Policy) -> Collection[str]:
    """The models with a price that `pattern` speaks for: the one of that name, else those that it matches."""
    if not any(sign in pattern for sign in "*?["):
        return [pattern]
    listed = chain(policy.prices, bundled())
    return [model for model in listed if fnmatchcase(model, pattern)]


def _judged(place: str, models: Iterable[str], target: str, known: Known) -> Iterator[Finding]:
    """A finding where `target` is dearer than every one of `models` whose price is known."""
    stands_in = known(target)
    prices = [price for model in models if model != target and (price := known(model)) is not None]
    if stands_in is None or not prices or not all(is_dearer(stands_in, price) for price in prices):
        return
    found = f"a dearer model: {shown(target)} costs {_rates(stands_in)}, {shown(prices[0].model)} {_rates(prices[0])}"
    yield Finding(place, found, "a model that is dearer neither in input nor in output")


def is_dearer(target: Price, asked: Price) -> bool:
    """Whether `target` is dearer in input or in output."""
    return target.input > asked.input or target.output > asked.output


def _rates(price: Price) -> str:
    given, made = (f"{Decimal(rate) / _PICO_PER_MILLION:f}" for rate in (price.input, price.output))
    return f"{given} and {made} USD per million input and output tokens"


def _caps(policy: Policy) -> Iterator[tuple[str, Cap]]:
    """Every cap as it holds, with its place: those of users laid over the ones they change."""
    scopes: list[tuple[str, Iterable[Cap]]] = [("", policy.caps)]
    scopes += [(place_of(["plans", name]), plan.caps) for name, plan in policy.plans.items()]
    for place, caps in scopes:
        for index, cap in enumerate(caps):
            yield joined(place, f"caps{indexed(index, cap)}"), cap
    for name, user in policy.users.items():
        plans = policy.plans.values() if user.plan is None else [policy.plans[user.plan]]
        for index, change in enumerate(user.caps):
            place = joined(place_of(["users", name]), f"caps{indexed(index, change)}")
            bases: list[Cap | None] = [cap for plan in plans for cap in plan.caps if cap.id == change.id]
            yield from ((place, change.applied_to(base)) for base in bases or [None])
