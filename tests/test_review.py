"""Looking back: the policies that were published, and the caps that hold with where they come from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from capguard import Cap, Guard, IdentityMissing, PolicyError
from capguard.policy.load import load_policy, policy_hash
from capguard.testing import ManualClock

Opened = Callable[..., Guard]

POLICY: dict[str, Any] = {
    "default_plan": "free",
    "plans": {
        "free": {"caps": [{"id": "monthly", "limit": 1}, {"id": "daily", "limit": "0.5", "window": "daily"}]},
        "pro": {"caps": [{"id": "monthly", "limit": 60}]},
    },
    "caps": [{"id": "company", "per": [], "limit": 500, "match": {"model": "gpt-4o*"}}],
    "users": {"vip": {"plan": "pro", "caps": [{"id": "monthly", "limit": 99}, {"id": "own", "limit": 7}]}},
}


async def test_history(opened: Opened, clock: ManualClock) -> None:
    """When, by whom, why; a policy that is pushed again later has the hash it had. Async says the same."""
    guard = opened(None, initial_policy=POLICY)
    clock.advance(hours=1)
    guard.publish({}, by="ann", why="no caps today")
    guard.publish({}, by="bob")
    clock.advance(hours=1)
    guard.publish(POLICY, by="ann")
    found = guard.history()
    assert [(each.revision, each.by, each.why) for each in found] == [
        (1, None, "initial policy"),
        (2, "ann", "no caps today"),
        (3, "ann", None),
    ]
    assert [each.at - found[0].at for each in found] == [timedelta(hours=number) for number in range(3)]
    hashes = [each.hash for each in found]
    assert hashes[0] == hashes[2] == policy_hash(load_policy(POLICY)) != hashes[1]
    assert await guard.ahistory() == found


async def test_policy_at(opened: Opened) -> None:
    """Every revision is still there as it was."""
    guard = opened(None, initial_policy=POLICY)
    guard.publish({})
    assert guard.policy_at(1) == load_policy(POLICY)
    assert guard.policy_at(2) == load_policy({}) == await guard.apolicy_at(2)


def test_none_published(opened: Opened) -> None:
    """A process with its own policy looks at the same history, here an empty one."""
    guard = opened(POLICY)
    assert guard.history() == []
    with pytest.raises(PolicyError, match="revision 1"):
        guard.policy_at(1)


@pytest.mark.parametrize("revision", [0, -1, True, "1", 1.0])
def test_no_revision(opened: Opened, revision: Any) -> None:
    with pytest.raises(ValueError, match="revision"):
        opened(POLICY).policy_at(revision)


HOLDING: dict[str, tuple[dict[str, Any], list[tuple[str, str, str]]]] = {
    "nobody": ({}, [("monthly", "plan", "1"), ("daily", "plan", "0.5"), ("company", "global", "500")]),
    "a plan": ({"plan": "pro"}, [("monthly", "plan", "60"), ("company", "global", "500")]),
    "a user of the policy": (
        {"user": "vip"},
        [("monthly", "user", "99"), ("own", "user", "7"), ("company", "global", "500")],
    ),
    "overridden": (
        {"user": "ann"},
        [
            ("monthly", "override", "5"),
            ("daily", "plan", "0.5"),
            ("company", "override", "400"),
            ("extra", "override", "2"),
        ],
    ),
    "assigned": ({"user": "bob"}, [("monthly", "plan", "60"), ("company", "global", "500")]),
    "a plan that is named comes first": (
        {"user": "bob", "plan": "free"},
        [("monthly", "plan", "1"), ("daily", "plan", "0.5"), ("company", "global", "500")],
    ),
}


@pytest.mark.parametrize(("who", "caps"), HOLDING.values(), ids=HOLDING)
async def test_caps(opened: Opened, who: dict[str, Any], caps: list[tuple[str, str, str]]) -> None:
    """In policy order, each with what had the last word on it: override over user over plan."""
    guard = opened(POLICY)
    guard.override(user="ann", cap="monthly", limit=5)
    guard.override(user="ann", cap="company", limit=400)
    guard.override(user="ann", caps=[Cap(id="extra", limit=2)])
    guard.assign(user="bob", plan="pro")
    found = guard.caps(**who)
    assert [(cap.id, cap.origin, f"{cap.limit:f}") for cap in found] == caps
    assert await guard.acaps(**who) == found


def test_an_override_ends(opened: Opened, clock: ManualClock) -> None:
    """Its end is told; after it the cap is the plan's again."""
    guard = opened(POLICY)
    until = clock.now + timedelta(days=1)
    guard.override(user="ann", cap="monthly", limit=5, until=until)
    assert [cap.until for cap in guard.caps(user="ann")] == [until, None, None]
    clock.advance(days=1)
    assert [cap.origin for cap in guard.caps(user="ann")] == ["plan", "plan", "global"]


def test_caps_of_no_plan(opened: Opened) -> None:
    with pytest.raises(IdentityMissing, match="ultra"):
        opened({"plans": {"pro": {}}}).caps(plan="ultra")


def test_to_dict(opened: Opened) -> None:
    company = opened(POLICY).caps()[-1]
    assert company.to_dict() == {
        "id": "company",
        "origin": "global",
        "limit": "500",
        "unit": "usd",
        "per": [],
        "window": "monthly:1@UTC",
        "action": "block",
        "match": {"model": ["gpt-4o*"]},
        "until": None,
    }
