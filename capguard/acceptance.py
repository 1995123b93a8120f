"""What a policy must be for a Guard to take it, beyond its grammar: no downgrade leads to a dearer model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from decimal import Decimal
from fnmatch import fnmatchcase
from itertools import chain

from capguard.errors import Finding, PolicyError
from capguard.policy.document import Cap, CapChange, Policy
from capguard.policy.findings import indexed, joined, place_of, shown
from capguard.policy.globs import best_match
from capguard.policy.load import load_policy
from capguard.pricing.book import bundled
from capguard.pricing.price import Price
from capguard.tariffs import Tariffs

_PICO_PER_MILLION = 10**6  # pico-dollars per token, as dollars per million tokens


def accepted(source: object) -> Policy:
    """The policy in `source`, as `load_policy` takes it. Raises PolicyError also for downgrades to dearer models."""
    policy = load_policy(source)
    if findings := [*_dearer_targets(policy)]:
        raise PolicyError(findings)
    return policy


def _dearer_targets(policy: Policy) -> Iterator[Finding]:
    known = Tariffs(policy).known
    for pattern, target in policy.downgrade.items():
        served = [model for model in _served(pattern, policy) if best_match(policy.downgrade, model) == pattern]
        yield from _judged(place_of(["downgrade", pattern]), served, target, known)
    for place, cap in _caps(policy):
        if cap.action == "downgrade" and cap.to is not None and cap.match is not None:
            for pattern in cap.match.model or ():
                yield from _judged(f"{place}.to", _served(pattern, policy), cap.to, known)


def _served(pattern: str, policy: Policy) -> Collection[str]:
    """The models with a price that `pattern` speaks for: the one of that name, else those that it matches."""
    if not any(sign in pattern for sign in "*?["):
        return [pattern]
    listed = chain(policy.prices, bundled())
    return [model for model in listed if fnmatchcase(model, pattern)]


def _judged(place: str, models: Iterable[str], target: str, known: Callable[[str], Price | None]) -> Iterator[Finding]:
    """A finding where `target` is dearer than every one of `models` whose price is known."""
    stands_in = known(target)
    prices = [price for model in models if model != target and (price := known(model)) is not None]
    if stands_in is None or not prices or not all(_is_dearer(stands_in, price) for price in prices):
        return
    found = f"a dearer model: {shown(target)} costs {_rates(stands_in)}, {shown(prices[0].model)} {_rates(prices[0])}"
    yield Finding(place, found, "a model that is dearer neither in input nor in output")


def _is_dearer(target: Price, asked: Price) -> bool:
    return target.input > asked.input or target.output > asked.output


def _rates(price: Price) -> str:
    given, made = (f"{Decimal(rate) / _PICO_PER_MILLION:f}" for rate in (price.input, price.output))
    return f"{given} and {made} USD per million input and output tokens"


def _caps(policy: Policy) -> Iterator[tuple[str, Cap | CapChange]]:
    """Every cap as it is written, with its place."""
    scopes: list[tuple[str, Iterable[Cap | CapChange]]] = [("", policy.caps)]
    scopes += [(place_of(["plans", name]), plan.caps) for name, plan in policy.plans.items()]
    scopes += [(place_of(["users", name]), user.caps) for name, user in policy.users.items()]
    for place, caps in scopes:
        for index, cap in enumerate(caps):
            yield joined(place, f"caps{indexed(index, cap)}"), cap
