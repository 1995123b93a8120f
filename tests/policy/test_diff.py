"""`diff`: the fields that differ between two policies, with caps matched by id, plans and users by name."""

from __future__ import annotations

from typing import Any

import pytest

from capguard import Policy
from capguard.policy.diff import diff
from capguard.policy.load import load_policy

HARD = {"id": "hard", "limit": 60}
WEEK = {"id": "week", "limit": 15, "window": "weekly"}


def pro(*caps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"plans": {"pro": {"caps": list(caps), **fields}}}


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "nothing": (pro(HARD), pro(HARD), []),
    "a number written otherwise": (pro(HARD), pro({"id": "hard", "limit": "60.00"}), []),
    "a default spelt out": (pro(HARD), pro({**HARD, "action": "block", "per": ["user"]}), []),
    "a limit": (pro(HARD), pro({**HARD, "limit": 80}), ["~ plans.pro.caps.hard.limit: 60 -> 80"]),
    "away from a default": (
        pro(HARD),
        pro({**HARD, "window": "daily", "per": []}),
        ["~ plans.pro.caps.hard.per: [user] -> []", "~ plans.pro.caps.hard.window: monthly -> daily"],
    ),
    "a flag": (pro(HARD), pro({**HARD, "public": True}), ["~ plans.pro.caps.hard.public: false -> true"]),
    "a new cap": (
        pro(HARD),
        pro(HARD, WEEK),
        ["+ plans.pro.caps.week = { id = week, limit = 15, window = weekly }"],
    ),
    "a cap gone": (pro(WEEK, HARD), pro(WEEK), ["- plans.pro.caps.hard = { id = hard, limit = 60 }"]),
    "a cap before the others": (
        pro(HARD),
        pro(WEEK, HARD),
        ["+ plans.pro.caps.week = { id = week, limit = 15, window = weekly }"],
    ),
    "another order": (pro(HARD, WEEK), pro(WEEK, HARD), ["~ plans.pro.caps: [hard, week] -> [week, hard]"]),
    "a match": (
        {"caps": [HARD]},
        {"caps": [{**HARD, "match": {"model": "gpt-4o*"}}]},
        ["+ caps.hard.match = { model = [gpt-4o*] }"],
    ),
    "a new plan": (
        pro(HARD),
        {"plans": {**pro(HARD)["plans"], "free": {"price": 0}}},
        ["+ plans.free = { price = 0 }"],
    ),
    "an allowance": (pro(), pro(included={"amount": 50}), ["+ plans.pro.included = { amount = 50 }"]),
    "a user": (
        pro(HARD),
        {**pro(HARD), "users": {"a.b": {"caps": [{"id": "hard", "limit": 3}]}}},
        ['+ users."a.b" = { caps = { hard = { id = hard, limit = 3 } } }'],
    ),
    "a downgrade": (
        {"downgrade": {"gpt-4o": "gpt-4o-mini"}},
        {"downgrade": {"gpt-4o": "gpt-4.1-nano"}},
        ["~ downgrade.gpt-4o: gpt-4o-mini -> gpt-4.1-nano"],
    ),
    "the zone": ({}, {"timezone": "Europe/Paris"}, ["~ timezone: UTC -> Europe/Paris"]),
    "a plan that is called caps": (
        {"plans": {"caps": {"caps": [HARD]}}},
        {"plans": {"caps": {"caps": [{**HARD, "limit": 1}]}}},
        ["~ plans.caps.caps.hard.limit: 60 -> 1"],
    ),
}


@pytest.mark.parametrize(("old", "new", "changes"), CASES.values(), ids=CASES)
def test_changes(old: dict[str, Any], new: dict[str, Any], changes: list[str]) -> None:
    """Every difference once, at its place, with what stood there and what stands there."""
    assert [str(change) for change in diff(load_policy(old), load_policy(new))] == changes


@pytest.mark.parametrize(("old", "new"), [case[:2] for case in CASES.values()], ids=CASES)
def test_back_again(old: dict[str, Any], new: dict[str, Any]) -> None:
    """The way back is the same places with before and after exchanged."""
    there = diff(load_policy(old), load_policy(new))
    back = diff(load_policy(new), load_policy(old))
    assert sorted((change.place, str(change.after), str(change.before)) for change in back) == sorted(
        (change.place, str(change.before), str(change.after)) for change in there
    )


def test_to_dict() -> None:
    (change,) = diff(Policy(caps=[HARD]), Policy(caps=[{**HARD, "limit": "0.5"}]))
    assert change.to_dict() == {"place": "caps.hard.limit", "before": "60", "after": "0.5"}
