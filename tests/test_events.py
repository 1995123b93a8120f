"""What a Guard tells: every event once, with who, which cap, how much, until when; once over all processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from capguard import CapExceeded, Guard, IdempotencyMismatch, Usage
from capguard.events import NAMES, Event
from capguard.plugins import hookimpl
from capguard.plugins.manager import plugin_manager
from capguard.results import Reservation
from capguard.testing import ManualClock
from tests.kit import PRICES

Opened = Callable[..., Guard]

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)
ASK: dict[str, Any] = {"user": "u1", "model": "big", "prompt": "x", "max_tokens": 100, "id": "once"}  # $0.00201
WHO = {"at": NOW, "identity": {"user": "u1"}, "call_id": "once"}
AMOUNT = {"scope": {"user": "u1"}, "unit": "usd", "amount": Decimal("0.00201"), "until": FEBRUARY}
NOTHING = {"settled": 0, "held": 0}


def cap(action: str, limit: Any = "0.001", **fields: Any) -> dict[str, Any]:
    return {"prices": PRICES, "caps": [{"id": "c", "limit": limit, "action": action, **fields}]}


def settle(guard: Guard, cost: Any = None, **call: Any) -> None:
    guard.settle(guard.reserve(**{"user": "u1", "cost": 0, "id": "once", **call}), cost=cost)


def refused(guard: Guard) -> None:
    with pytest.raises(CapExceeded):
        guard.reserve(**ASK)


def waited(guard: Guard) -> None:
    guard.allow(user="u1", amount=0)
    guard.reserve(user="u1", cost=0, id="once")


def late(guard: Guard) -> None:
    reservation = guard.reserve(user="u1", cost=1, id="once")
    guard.release(reservation)
    guard.settle(reservation, cost=1)


def conflicting(guard: Guard) -> None:
    reservation = guard.reserve(user="u1", cost=1, id="once")
    guard.settle(reservation, cost=1)
    with pytest.raises(IdempotencyMismatch):
        guard.settle(reservation, cost=2)
    with guard.call(user="u1", cost=1, id="once") as call:
        call.settle(cost=1)


def granted(guard: Guard) -> None:
    guard.grant(user="u1", amount=5, id="g", until=FEBRUARY)
    settle(guard, 6)


def included(amount: int) -> dict[str, Any]:
    return {"default_plan": "p", "plans": {"p": {"included": {"amount": amount}}}}


CAPPED = {
    **WHO,
    **AMOUNT,
    "model": "big",
    "cap": "c",
    "limit": Decimal("0.001"),
    "reason": "too_big",
    "detail": NOTHING,
}
CASES: dict[str, tuple[dict[str, Any], Callable[[Guard], Any], dict[str, Any]]] = {
    "denied": (cap("block"), refused, CAPPED),
    "warned": (cap("warn"), lambda guard: guard.reserve(**ASK), CAPPED),
    "dry_run": (cap("dry_run"), lambda guard: guard.reserve(**ASK), CAPPED),
    "downgraded": (cap("downgrade", to="small"), lambda guard: guard.reserve(**ASK), {**CAPPED, "model": "small"}),
    "clamped": (
        cap("clamp", unit="output_tokens", limit=50, min_output=10),
        lambda guard: guard.reserve(**ASK),
        {**CAPPED, "unit": "output_tokens", "amount": 100, "limit": 50},
    ),
    "throttled": (
        cap("throttle", unit="requests", limit=1, window="rolling:60s", max_wait=100),
        waited,
        {**CAPPED, "unit": "requests", "amount": 1, "limit": 1, "model": None, "reason": "exhausted",
         "until": NOW + timedelta(seconds=61), "detail": {"settled": 1, "held": 0}},
    ),
    "threshold": (
        {**cap("block", 10), "alerts": {"thresholds": [0.5]}},
        lambda guard: settle(guard, 6),
        {**WHO, **AMOUNT, "call_id": None, "cap": "c", "amount": 6, "limit": 10, "threshold": Decimal("0.5")},
    ),
    "included_used_up": (
        included(5),
        lambda guard: settle(guard, 6),
        {**WHO, **AMOUNT, "call_id": None, "identity": {"user": "u1", "plan": "p"}, "cap": "included", "amount": 5,
         "limit": 5, "threshold": 1, "until": FEBRUARY},
    ),
    "grant_used_up": (
        {},
        granted,
        {**WHO, **AMOUNT, "call_id": None, "cap": "g", "amount": 5, "limit": 5, "threshold": 1,
         "scope": {"user": "u1", "grant": "g"}},
    ),
    "unpriced": (
        {"failure": {"unknown_model": "allow"}},
        lambda guard: guard.reserve(**{**ASK, "model": "unheard-of"}),
        {**WHO, "model": "unheard-of"},
    ),
    "uncertain": ({}, settle, WHO),
    "overrun": (cap("block", 1), lambda guard: settle(guard, "1.5"), {**WHO, "unit": "usd", "amount": Decimal("0.5")}),
    "late": ({}, late, WHO),
    "conflict": ({}, conflicting, WHO),
    "unknown_plan": (
        {"plans": {"p": {}}, "default_plan": "p"},
        lambda guard: guard.reserve(user="u1", plan="typo", cost=0, id="once"),
        {**WHO, "identity": {"user": "u1", "plan": "p"}, "detail": {"plan": "typo"}},
    ),
    "policy_changed": (
        cap("block"),
        lambda guard: guard.override(user="u1", cap="c", limit=5, by="ops", why="launch"),
        {**WHO, "call_id": None, "detail": {"change": "override", "revision": 1, "by": "ops", "why": "launch"}},
    ),
}  # fmt: skip


def test_every_event_has_its_case() -> None:
    """Those of a backend that goes away are told in tests/resilience."""
    assert set(CASES) == set(NAMES) - {"backend_away", "backend_back"}


@pytest.mark.parametrize("name", CASES)
def test_every_event(opened: Opened, name: str) -> None:
    """Once, frozen, with its fields; `*` hears it too. What an event says nothing about is None or empty."""
    policy, cause, fields = CASES[name]
    guard = opened(policy)
    told: list[Event] = []
    heard: list[Event] = []
    guard.on(name, told.append)
    guard.on("*", heard.append)
    cause(guard)
    expected = Event(**{"name": name, **{field: value for field, value in fields.items() if value is not None}})
    if name == "throttled":
        assert told[0].at == NOW
    assert told == [expected]
    assert [event for event in heard if event.name == name] == told
    with pytest.raises(AttributeError):
        told[0].name = "other"  # type: ignore[misc]


async def test_the_same_from_coroutines(opened: Opened) -> None:
    guard = opened(cap("warn"))
    told: list[str] = []
    guard.on("*", lambda event: told.append(event.name))
    async with guard.call(**ASK) as call:
        call.settle(cost=1)
    await guard.agrant(user="u1", amount=5)
    assert told == ["warned", *["threshold"] * 4, "policy_changed"]


def test_a_replay_is_not_told_again(opened: Opened) -> None:
    """Neither a reserve, a settle, a grant nor a policy that was there already."""
    guard = opened(cap("warn"))
    told: list[str] = []
    guard.on("*", lambda event: told.append(event.name))
    for _ in range(2):
        guard.settle(guard.reserve(**ASK), cost="1.5")
        guard.grant(user="u1", amount=5, id="g")
        guard.override(user="u1", cap="c", limit=5)
    assert sorted(told) == ["policy_changed", "policy_changed", *["threshold"] * 4, "warned"]


def is_over(guard: Guard) -> Reservation:
    """A call whose settle goes beyond the limit."""
    return guard.reserve(user="u1", cost=1, id="once")


def is_late(guard: Guard) -> Reservation:
    """A call whose hold has ended before its settle."""
    reservation = guard.reserve(user="u1", cost=1, id="once")
    guard.release(reservation)
    return reservation


AGAIN: dict[str, tuple[Callable[[Guard], Reservation], dict[str, Any], list[str]]] = {
    "an overrun": (is_over, {"cost": 7}, ["overrun"]),
    "a late booking": (is_late, {"cost": 1}, ["late"]),
    "both": (is_late, {"cost": 7}, ["late", "overrun"]),
    "an uncertain one": (is_over, {}, ["uncertain"]),
}


@pytest.mark.parametrize(("made", "settled", "events"), AGAIN.values(), ids=AGAIN)
async def test_a_repeated_settle_tells_nothing_new(
    opened: Opened, made: Callable[[Guard], Reservation], settled: dict[str, Any], events: list[str]
) -> None:
    """An overrun happens once, and a booking is late once, however often the settle is sent, by a verb or a block."""
    guard = opened({**cap("block", 5), "alerts": {"thresholds": []}})
    reservation = made(guard)
    told: list[str] = []
    guard.on("*", lambda event: told.append(event.name))
    for _ in range(2):
        guard.settle(reservation, **settled)
        guard.settle(reservation.id, **settled)
        await guard.asettle(reservation, **settled)
    if settled:
        with guard.call(user="u1", cost=1, id="once") as call:
            call.settle(**settled)
    assert told == events


def test_asking_tells_nothing(opened: Opened) -> None:
    guard = opened(cap("block"))
    told: list[Event] = []
    guard.on("*", told.append)
    assert not guard.check(**{name: value for name, value in ASK.items() if name != "id"})
    assert told == []


def test_one_decision_is_told_once_per_cap(opened: Opened) -> None:
    """A cap that steers and then has no room on the cheaper model either says so once."""
    guard = opened({**cap("downgrade", 0, to="small"), "plans": {}})
    told: list[Event] = []
    guard.on("downgraded", told.append)
    reservation = guard.reserve(**ASK)
    assert ([event.model for event in told], len(reservation.decision.passed)) == (["small"], 1)


# thresholds


@pytest.fixture
def two(tmp_path: Any, clock: ManualClock) -> Iterator[Callable[..., list[Guard]]]:
    """Two Guards on one SQLite file, as in two processes."""
    guards: list[Guard] = []

    def make(policy: Any) -> list[Guard]:
        guards.extend(Guard(f"sqlite:///{tmp_path}/ledger.db?timeout=30", policy=policy, clock=clock) for _ in range(2))
        return guards

    yield make
    for guard in guards:
        assert guard.verify()
        guard.close()


TEN = {"caps": [{"id": "c", "limit": 10}, {"id": "day", "limit": 10, "window": "daily"}]}


def test_a_threshold_is_told_once_over_all_processes(two: Callable[..., list[Guard]], clock: ManualClock) -> None:
    """Per cap, identity, period and threshold; whoever crosses it tells it; a new period tells it anew."""
    told: list[tuple[str, str | None, Decimal | None]] = []
    guards = two({**TEN, "alerts": {"thresholds": [0.5, 1]}})
    for guard in guards:
        guard.on("threshold", lambda event: told.append((event.identity["user"], event.cap, event.threshold)))

    def spend(index: int, cost: int, user: str = "u1") -> list[tuple[str, str | None, Decimal | None]]:
        told.clear()
        guards[index].settle(guards[index].reserve(user=user, cost=0), cost=cost)
        return told

    half, whole = Decimal("0.5"), Decimal(1)
    assert spend(0, 4) == []
    assert spend(1, 1) == [("u1", "c", half), ("u1", "day", half)]
    assert spend(0, 1) == []
    assert spend(0, 20, "u2") == [("u2", each, share) for each in ("c", "day") for share in (half, whole)]
    assert spend(1, 4) == [("u1", "c", whole), ("u1", "day", whole)]
    clock.advance(days=1)
    assert spend(0, 6) == [("u1", "day", half)]


def test_a_threshold_is_told_once_though_it_is_crossed_again(opened: Opened) -> None:
    """A late correction takes the meter back below, the next call crosses it once more."""
    guard = opened({**TEN, "alerts": {"thresholds": [0.5]}})
    told: list[Event] = []
    guard.on("threshold", told.append)
    reservation = guard.reserve(user="u1", cost=6, ttl=1)
    guard._clock.advance(hours=1)  # type: ignore[attr-defined]
    guard.reserve(user="u1", cost=0)
    guard.settle(reservation, cost=1)
    guard.settle(guard.reserve(user="u1", cost=0), cost=6)
    assert [event.cap for event in told] == ["c", "day"]


@pytest.mark.parametrize(
    "next_step",
    [
        lambda guard: guard.reserve(user="u2", cost=0),
        lambda guard: guard.reserve(user="u2", cost=0, id="known"),
        lambda guard: guard.check(user="u2", cost=0),
        lambda guard: guard.allow(user="u2", amount=0),
        lambda guard: guard.settle("known", cost=0),
        lambda guard: guard.release("known"),
        lambda guard: guard.release("unknown"),
        lambda guard: guard.extend("known", ttl=86400),
        lambda guard: guard.status(user="u2"),
    ],
)
def test_what_an_expiry_crosses_is_told_by_whoever_ends_it(
    opened: Opened, clock: ManualClock, next_step: Callable[[Guard], Any]
) -> None:
    """The next step of anybody ends it, and says whose it was."""
    guard = opened({"caps": [{"id": "c", "limit": 10}], "alerts": {"thresholds": [0.5]}})
    told: list[Event] = []
    guard.on("threshold", told.append)
    guard.reserve(user="u2", cost=0, id="known", ttl=86400)
    guard.reserve(user="u1", cost=6)
    clock.advance(hours=1)
    next_step(guard)
    assert [(event.identity, event.cap, event.amount) for event in told] == [({"user": "u1"}, "c", 6)]


def test_thresholds_of_what_pays(opened: Opened, clock: ManualClock) -> None:
    """An allowance is used up once a period, a grant once; a rolling window tells no threshold."""
    rolling = {"id": "r", "limit": 5, "window": "rolling:1h"}
    guard = opened({"default_plan": "p", "plans": {"p": {"included": {"amount": 5}, "caps": [rolling]}}})
    told: list[tuple[str, str | None]] = []
    guard.on("*", lambda event: told.append((event.name, event.cap)))
    guard.grant(user="u1", amount=1, id="g")
    told.clear()
    for days in (0, 0, 31):
        clock.advance(days=days)
        assert guard.allow(user="u1", amount=3)
        clock.advance(hours=2)
        assert guard.allow(user="u1", amount=4)
        clock.advance(hours=2)
    used = [("included_used_up", "included"), ("grant_used_up", "g")]
    assert told == [*used, ("included_used_up", "included")]


# observers


def test_an_observer_that_fails_is_not_felt(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged and counted; the others are told, and the call goes on."""
    guard = opened(cap("warn"))
    told: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError(f"no {event.name} today")

    guard.on("warned", broken)
    guard.on("warned", told.append)
    guard.reserve(**ASK)
    assert (len(told), guard.observer_failures) == (1, 1)
    assert "an observer of 'warned' failed" in caplog.text
    assert "no warned today" in caplog.text


@pytest.mark.parametrize("name", ["", "deny", "DENIED", "a" * 100])
def test_an_event_that_nobody_sends(opened: Opened, name: str) -> None:
    with pytest.raises(ValueError, match=r"event: .* is none; allowed: denied, warned"):
        opened({}).on(name, print)


class Plugin:
    """A plugin that keeps what it is told."""

    def __init__(self, fails: bool = False):
        self.told: list[Event] = []
        self.fails = fails

    @hookimpl
    def capguard_event(self, event: Event) -> None:
        self.told.append(event)
        if self.fails:
            raise RuntimeError("no")


def test_plugins_are_told(opened: Opened) -> None:
    """Each of them, also where another one fails."""
    plugins = [Plugin(), Plugin(fails=True), Plugin()]
    for plugin in plugins:
        plugin_manager().register(plugin)
    try:
        guard = opened(cap("warn"))
        guard.reserve(**ASK)
    finally:
        for plugin in plugins:
            plugin_manager().unregister(plugin)
    assert [[event.name for event in plugin.told] for plugin in plugins] == [["warned"]] * 3
    assert guard.observer_failures == 1


def test_what_passed_a_cap_is_in_the_log(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    """One line each, with nobody listening: who, which cap, what it needed."""
    caplog.set_level(logging.INFO, "capguard")
    opened(cap("dry_run")).reserve(**ASK)
    line = "capguard: once: cap 'c' would have blocked (dry_run): needs 0.00201 of 0.001 usd for user=u1"
    assert [record.getMessage() for record in caplog.records] == [line]


def test_usage_without_a_price_is_uncertain(opened: Opened) -> None:
    """A settle by usage of a call that was reserved by cost books the cost as it was expected, and says so."""
    guard = opened({})
    told: list[str] = []
    guard.on("*", lambda event: told.append(event.name))
    guard.settle(guard.reserve(user="u1", cost=1), usage=Usage(output_tokens=5))
    assert told == ["uncertain"]
