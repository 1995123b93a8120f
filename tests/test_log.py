"""`Guard.log`: what caps did and what was steered, in time order, whichever of the three records it stands in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from capguard import CapExceeded, Guard, answers
from capguard.enforcement import LogLine
from capguard.errors import UnknownReservation
from capguard.testing import ManualClock

from .kit import ASK, PRICES

POLICY: dict[str, Any] = {
    "prices": PRICES,
    "alerts": {"thresholds": [1]},
    "plans": {
        "block": {"caps": [{"id": "hard", "limit": 1}]},
        "warn": {"caps": [{"id": "notice", "limit": 1, "action": "warn"}]},
        "dry": {"caps": [{"id": "shadow", "per": ["team"], "limit": 1, "action": "dry_run"}]},
        "cheap": {"caps": [{"id": "cheaper", "limit": "0.001", "action": "downgrade", "to": "small"}]},
        "short": {"caps": [{"id": "shorter", "limit": "0.004", "action": "clamp"}]},
        "paid": {"included": {"amount": 1}},
        "free": {},
    },
    "default_plan": "free",
}
Opened = Callable[..., Guard]
Act = Callable[[Guard, ManualClock], object]
Told = tuple[str, str | None, dict[str, str | None], str | None, int, str]


def told(lines: list[LogLine]) -> list[Told]:
    return [(line.kind, line.cap, dict(line.scope), line.user, line.count, line.detail) for line in lines]


def refused(guard: Guard, user: str = "u1", plan: str = "block", times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(CapExceeded):
            guard.reserve(user=user, plan=plan, cost="2")


def expires(guard: Guard, clock: ManualClock) -> None:
    guard.reserve(user="u1", cost="2", id="one")
    clock.advance(minutes=10)
    guard.allow(user="u2", cost="0")


def too_late(guard: Guard, clock: ManualClock) -> None:
    reservation = guard.reserve(user="u1", cost="0")
    guard.settle(reservation)
    clock.advance(hours=25)
    with pytest.raises(UnknownReservation):
        guard.settle(reservation, cost="2.5")


def late(guard: Guard, clock: ManualClock) -> None:
    expires(guard, clock)
    guard.settle("one", cost="2")


SCOPE: dict[str, str | None] = {"user": "u1"}
KINDS: dict[str, tuple[Act, list[Told]]] = {
    "dead letter": (
        too_late,
        [
            ("uncertain", None, {}, "u1", 1, "booked as expected"),
            ("dead_letter", None, {}, None, 1, "settled when its id was forgotten: 2.5 usd not booked"),
        ],
    ),
    "denied": (lambda guard, _: refused(guard, times=3), [("denied", "hard", SCOPE, "u1", 3, "")]),
    "threshold": (
        lambda guard, _: guard.allow(user="u1", plan="block", cost="1"),
        [("threshold", "hard", SCOPE, "u1", 1, "100% of the limit")],
    ),
    "included used up": (
        lambda guard, _: guard.allow(user="u1", plan="paid", cost="1"),
        [("threshold", "included", SCOPE, "u1", 1, "100% of the limit")],
    ),
    "warned": (
        lambda guard, _: guard.reserve(user="u1", plan="warn", cost="2"),
        [("warned", "notice", SCOPE, "u1", 1, "needs 2 of 1 usd")],
    ),
    "dry_run": (
        lambda guard, _: guard.reserve(user="u1", plan="dry", team="red", model="big", cost="2"),
        [("dry_run", "shadow", {"team": "red"}, "u1", 1, "big: needs 2 of 1 usd")],
    ),
    "downgraded": (
        lambda guard, _: guard.reserve(user="u1", plan="cheap", model="big", **ASK),
        [("downgraded", "cheaper", SCOPE, "u1", 1, "big to small")],
    ),
    "clamped": (
        lambda guard, _: guard.reserve(user="u1", plan="short", model="big", **{**ASK, "max_tokens": 1000}),
        [("clamped", "shorter", SCOPE, "u1", 1, "big: output limited to ")],
    ),
    "overrun": (
        lambda guard, _: guard.settle(guard.reserve(user="u1", plan="block", cost="0.5"), cost="1.25"),
        [
            ("overrun", None, {}, "u1", 1, "0.25 usd beyond the limit: above estimate"),
            ("threshold", "hard", SCOPE, "u1", 1, "100% of the limit"),
        ],
    ),
    "uncertain": (
        lambda guard, _: guard.settle(guard.reserve(user="u1", cost="2")),
        [("uncertain", None, {}, "u1", 1, "booked as expected")],
    ),
    "expired": (expires, [("uncertain", None, {}, "u1", 1, "expired, booked as expected")]),
    "late": (
        late,
        [
            ("uncertain", None, {}, "u1", 1, "expired, booked as expected"),
            ("late", None, {}, "u1", 1, "booked after its hold had ended"),
        ],
    ),
    "granted": (
        lambda guard, clock: guard.grant(
            user="u1", amount="2.5", id="promo", until=clock.now + timedelta(days=1), by="ann", why="sorry"
        ),
        [("policy", None, {}, "u1", 1, "grant promo: 2.5 usd until 2026-01-16 12:00 UTC (revision 1, by ann): sorry")],
    ),
    "revoked": (
        lambda guard, _: (guard.grant(user="u1", amount=1, id="promo"), guard.revoke(user="u1", id="promo")),
        [
            ("policy", None, {}, "u1", 1, "grant promo: 1 usd (revision 1)"),
            ("policy", None, {}, "u1", 1, "grant promo revoked (revision 2)"),
        ],
    ),
    "overridden": (
        lambda guard, _: (
            guard.override(user="u1", cap="hard", limit=3, action="warn", by="ann"),
            guard.clear_override(user="u1", cap="hard"),
        ),
        [
            ("policy", "hard", {}, "u1", 1, "override: limit 3, action warn (revision 1, by ann)"),
            ("policy", "hard", {}, "u1", 1, "override cleared (revision 2)"),
        ],
    ),
    "all overrides cleared": (
        lambda guard, _: (guard.override(user="u1", cap="hard", limit=3), guard.clear_override(user="u1")),
        [
            ("policy", "hard", {}, "u1", 1, "override: limit 3 (revision 1)"),
            ("policy", None, {}, "u1", 1, "all overrides cleared (revision 2)"),
        ],
    ),
    "assigned": (
        lambda guard, _: (guard.assign(user="u1", plan="warn"), guard.assign(user="u1", plan=None)),
        [
            ("policy", None, {}, "u1", 1, "plan warn (revision 1)"),
            ("policy", None, {}, "u1", 1, "no plan of its own (revision 2)"),
        ],
    ),
    "nothing to tell": (lambda guard, _: guard.settle(guard.reserve(user="u1", cost="1"), cost="1"), []),
}


@pytest.mark.parametrize(("act", "lines"), KINDS.values(), ids=KINDS)
def test_kinds(opened: Opened, clock: ManualClock, act: Act, lines: list[Told]) -> None:
    """Each kind of line, with its cap, whom it counts, how often, and what there is to say."""
    guard = opened(POLICY)
    act(guard, clock)
    found = told(list(guard.log()))
    assert [line[:5] for line in found] == [line[:5] for line in lines]
    assert all(mine[5].startswith(line[5]) for mine, line in zip(found, lines, strict=True)), found


def test_published(opened: Opened) -> None:
    guard = opened(None, initial_policy=POLICY)
    guard.publish({}, by="ann", why="no more caps")
    assert [line.detail for line in guard.log()] == [
        "policy published (revision 1): initial policy",
        "policy published (revision 2, by ann): no more caps",
    ]


def busy(guard: Guard, clock: ManualClock) -> None:
    """Twenty minutes, in each: two users refused, one warned, two thresholds, a grant."""
    for number in range(20):
        clock.advance(minutes=1)
        refused(guard, user="a", times=2)
        refused(guard, user="b")
        guard.release(guard.reserve(user=f"w{number}", plan="warn", cost="2"))
        guard.allow(user=f"t{number}", plan="block", cost="1")
        guard.allow(user=f"s{number}", plan="block", cost="1")
        guard.grant(user="g", amount=1, id=f"g{number}")


@pytest.mark.parametrize("page", [1, 3, 7, 500])
async def test_pages(opened: Opened, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    """Three streams are one, in time order, however they are cut into pages; async says the same."""
    monkeypatch.setattr(answers, "PAGE", page)
    guard = opened(POLICY)
    busy(guard, clock)
    lines = list(guard.log())
    assert len(lines) == 20 * 6
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert sum(line.count for line in lines if line.kind == "denied") == 60
    assert [line async for line in guard.alog()] == lines


def test_since_and_until(opened: Opened, clock: ManualClock) -> None:
    """[since, until) of every stream; a minute of refusals that `since` falls into is there whole."""
    guard = opened(POLICY)
    start = clock.now
    busy(guard, clock)
    since, until = start + timedelta(minutes=5, seconds=30), start + timedelta(minutes=8)
    minutes = {
        kind: [line.at for line in guard.log(since=since, until=until) if line.kind == kind]
        for kind in ("denied", "policy", "threshold")
    }
    fifth, sixth, seventh = (start + timedelta(minutes=number) for number in (5, 6, 7))
    assert minutes == {
        "denied": [fifth, fifth, sixth, sixth, seventh, seventh],
        "policy": [sixth, seventh],
        "threshold": [sixth, sixth, seventh, seventh],
    }


def test_naive_times_are_refused_at_once(opened: Opened) -> None:
    with pytest.raises(ValueError, match="naive"):
        opened(POLICY).log(since=datetime(2026, 1, 1))  # noqa: DTZ001


def test_json(opened: Opened) -> None:
    guard = opened(POLICY)
    refused(guard, times=2)
    (line,) = guard.log()
    assert line.to_dict() == {
        "at": datetime(2026, 1, 15, 12, tzinfo=UTC).isoformat(),
        "kind": "denied",
        "cap": "hard",
        "scope": {"user": "u1"},
        "user": "u1",
        "count": 2,
        "detail": "",
        "id": None,
    }
