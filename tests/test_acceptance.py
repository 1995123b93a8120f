"""A downgrade to a dearer model is refused where both prices are known: by a Guard, by publish, at its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from capguard import Cap, Guard, PolicyError, identify
from capguard.acceptance import accepted

PRICES = {
    "small": {"input": 1, "output": 2},
    "big": {"input": 10, "output": 20},
    "chatty": {"input": 1, "output": 30},
    "local": {"free": True},
}


def steering(to: str, **fields: Any) -> dict[str, Any]:
    return {"id": "cheaper", "limit": 1, "action": "downgrade", "to": to, **fields}


DEARER: dict[str, tuple[dict[str, Any], list[str]]] = {
    "own prices": ({"downgrade": {"small": "big"}}, ["downgrade.small"]),
    "dearer in output alone": ({"downgrade": {"small": "chatty"}}, ["downgrade.small"]),
    "from a free model": ({"downgrade": {"local": "small"}}, ["downgrade.local"]),
    "the book": ({"downgrade": {"gpt-4o-mini": "gpt-4o"}}, ["downgrade.gpt-4o-mini"]),
    "a pattern": ({"downgrade": {"gpt-4o-mini*": "gpt-4o"}}, ['downgrade."gpt-4o-mini*"']),
    "a pattern that has its own target": (
        {
            "prices": {"s-zz": {"input": 1, "output": 2}, "b-zz": {"input": 3, "output": 4}},
            "downgrade": {"*-zz": "b-zz"},
        },
        ['downgrade."*-zz"'],
    ),
    "a cap": ({"caps": [steering("big", match={"model": "small"})]}, ["caps[0] (cheaper).to"]),
    "a cap of a plan": (
        {"plans": {"pro": {"caps": [steering("big", match={"model": ["local", "chatty"]})]}}},
        ["plans.pro.caps[0] (cheaper).to"] * 2,
    ),
    "a cap of a user": (
        {"users": {"u": {"caps": [steering("big", match={"model": "small"})]}}},
        ["users.u.caps[0] (cheaper).to"],
    ),
    "what a user's change makes of a plan's cap": (
        {
            "plans": {"pro": {"caps": [steering("local", match={"model": "small"})]}},
            "users": {"u": {"caps": [{"id": "cheaper", "to": "big"}]}},
        },
        ["users.u.caps[0] (cheaper).to"],
    ),
    "all at once": (
        {"downgrade": {"small": "big"}, "caps": [steering("big", match={"model": "small"})]},
        ["downgrade.small", "caps[0] (cheaper).to"],
    ),
}
FINE: dict[str, dict[str, Any]] = {
    "cheaper": {"downgrade": {"big": "small"}},
    "the same price": {"downgrade": {"small": "small2"}, "prices": {**PRICES, "small2": {"input": 1, "output": 2}}},
    "a target without a price": {"downgrade": {"small": "nobody-knows"}},
    "a model without a price": {"downgrade": {"nobody-knows": "big"}},
    "a pattern that has dearer models too": {"downgrade": {"*": "gpt-4o-mini"}},
    "a pattern whose target is among its models": {"downgrade": {"gpt-4o*": "gpt-4o-mini"}},
    "models that another entry speaks for": {"downgrade": {"smal*": "big", "small": "local"}},
    "a user's change of another plan's cap": {
        "plans": {"pro": {"caps": [steering("local", match={"model": "small"})]}, "free": {}},
        "users": {"u": {"plan": "free", "caps": [steering("big")]}},
    },
    "a cap for every model": {"caps": [steering("big")]},
    "a cap that only warns": {"caps": [{"id": "a", "limit": 1, "action": "warn", "match": {"model": "small"}}]},
}


@pytest.mark.parametrize(("policy", "places"), DEARER.values(), ids=DEARER)
def test_refused(policy: dict[str, Any], places: list[str]) -> None:
    """Every one of them is a finding, with both prices in it."""
    with pytest.raises(PolicyError, match="a dearer model") as refused:
        Guard("memory://", policy={"prices": PRICES, **policy})
    assert [finding.place for finding in refused.value.findings] == places


@pytest.mark.parametrize("policy", FINE.values(), ids=FINE)
def test_fine(policy: dict[str, Any]) -> None:
    """What is not dearer, or whose prices nobody knows, is accepted."""
    assert accepted({"prices": PRICES, **policy}).prices


CIRCLE = {"downgrade": {"small": "twin"}, "prices": {**PRICES, "twin": {"input": 1, "output": 2}}}
BACK = steering("small", match={"model": ["chatty", "twin"]})


def test_a_circle() -> None:
    """A cap that leads to a model from which [downgrade] leads back."""
    with pytest.raises(PolicyError) as refused:
        accepted({**CIRCLE, "plans": {"pro": {"caps": [BACK]}}})
    (finding,) = refused.value.findings
    assert finding.place == "plans.pro.caps[0] (cheaper).to"
    assert finding.found == "a circle: 'twin' -> 'small' -> 'twin'"


# caps that stand in no policy

BROUGHT: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "dearer": ({"prices": PRICES}, steering("big", match={"model": "small"}), "a dearer model: 'big' costs 10 and 20"),
    "a circle": (CIRCLE, BACK, "a circle: 'twin' -> 'small' -> 'twin'; allowed: downgrades that end"),
}


def enter(guard: Guard, cap: Cap) -> None:
    with guard.call(user="u1", cost=1, caps=[cap]):
        pass


def run(guard: Guard, cap: Cap) -> None:
    with identify(caps=[cap]):
        guard.reserve(user="u1", cost=1)


WAYS: dict[str, Callable[[Guard, Cap], Any]] = {
    "call": enter,
    "identify": run,
    "check": lambda guard, cap: guard.check(user="u1", cost=1, caps=[cap]),
    "override": lambda guard, cap: guard.override(user="u1", caps=[cap]),
}


@pytest.mark.parametrize(("policy", "cap", "words"), BROUGHT.values(), ids=BROUGHT)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_cap_that_is_brought_in(way: Any, policy: dict[str, Any], cap: dict[str, Any], words: str) -> None:
    """Caps of a call, of a run and of one user are refused as those of a policy, and nothing is held or changed."""
    guard = Guard("memory://", policy=policy)
    with pytest.raises(PolicyError, match=re.escape(words)) as refused:
        way(guard, Cap(**cap))
    assert [finding.place for finding in refused.value.findings] == ["cap 'cheaper'.to"]
    assert list(guard.entries()) == []


CHANGES: dict[str, dict[str, Any]] = {
    "its target": {"to": "big", "match": {"model": "small"}},
    "what it matches": {"match": {"model": "local"}},
    "its action": {"cap": "hard", "action": "downgrade", "to": "big"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_change_of_a_cap(change: dict[str, Any]) -> None:
    """An override is judged by the cap that it makes."""
    caps = [steering("small", match={"model": "big"}), {"id": "hard", "limit": 5, "match": {"model": "small"}}]
    guard = Guard("memory://", policy={"prices": PRICES, "default_plan": "pro", "plans": {"pro": {"caps": caps}}})
    with pytest.raises(PolicyError, match="a dearer model"):
        guard.override(user="u1", **{"cap": "cheaper", **change})
    with pytest.raises(PolicyError, match="a dearer model"):
        await guard.aoverride(user="u1", **{"cap": "cheaper", **change})
    assert list(guard.entries()) == []


def test_what_is_fine_may_be_brought_in() -> None:
    """A cheaper model, a model for every call, a model whose price nobody knows."""
    guard = Guard("memory://", policy={"prices": PRICES, "caps": [{"id": "hard", "limit": 5}]})
    for to, match in (("small", {"model": "big"}), ("big", None), ("nobody-knows", {"model": "small"})):
        cap = Cap(**steering(to, match=match))
        assert guard.reserve(user="u1", cost=1, caps=[cap])
        assert guard.override(user="u2", caps=[cap])


BEYOND: dict[str, Any] = {
    "prices": {"bigger": {"input": 50, "output": 99}},
    "downgrade": {"big*": "chatty", "chatty": "small"},
}
SERVED: dict[str, tuple[dict[str, Any], str, str]] = {
    "cheaper": ({"downgrade": {"*": "small"}}, "big", "small"),
    "dearer, by a pattern": ({"downgrade": {"*": "big"}}, "small", "small"),
    "dearer in output alone": ({"downgrade": {"*": "chatty"}}, "small", "small"),
    "dearer, by a cap for every model": ({"to": "big"}, "small", "small"),
    "dearer than a free model": ({"downgrade": {"*": "small"}}, "local", "local"),
    "the same price": ({"downgrade": {"*": "small"}, "prices": {"twin": {"input": 1, "output": 2}}}, "twin", "small"),
    "past a dearer one to a cheaper one": (BEYOND, "big", "small"),
    "past a dearer one that a cap names": ({"downgrade": {"chatty": "small"}, "to": "chatty"}, "big", "small"),
    "a target without a price": ({"downgrade": {"*": "nobody-knows"}}, "small", "nobody-knows"),
    "a model without a price": ({"downgrade": {"*": "big"}}, "nobody-knows", "big"),
}


@pytest.mark.parametrize(("policy", "asked", "served"), SERVED.values(), ids=SERVED)
def test_no_call_is_led_to_a_dearer_model(policy: dict[str, Any], asked: str, served: str) -> None:
    """Where a pattern, or a cap for every model, is right for some of its models, it steers those alone."""
    written = {**policy, "prices": {**PRICES, **policy.get("prices", {})}}
    cap = steering(written.pop("to", None), limit=0)
    guard = Guard("memory://", policy={**written, "caps": [cap]})
    assert guard.reserve(user="u1", model=asked, prompt="x", max_tokens=100).model == served


def test_published(tmp_path: Any) -> None:
    """Neither the first policy nor a later one; the one in force stays."""
    url, bad = f"sqlite:///{tmp_path}/ledger.db?timeout=30", {"downgrade": {"gpt-4o-mini": "gpt-4o"}}
    with pytest.raises(PolicyError, match="a dearer model"):
        Guard(url, initial_policy=bad)
    with Guard(url, initial_policy={}) as guard:
        with pytest.raises(PolicyError, match="a dearer model"):
            guard.publish(bad)
        assert [each.revision for each in guard.history()] == [1]


def test_the_prices_are_told() -> None:
    with pytest.raises(PolicyError) as refused:
        accepted({"prices": PRICES, "downgrade": {"small": "big"}})
    (finding,) = refused.value.findings
    assert "'big' costs 10 and 20 USD per million input and output tokens, 'small' 1 and 2 USD" in finding.found
