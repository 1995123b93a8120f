"""The table of actions, row by row and sentence by sentence: what happens when a call does not fit."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from decimal import Decimal
from typing import Any

import openai
import pytest

from capguard import CapExceeded, Guard, capped, current_call
from capguard.testing import ManualClock
from capguard.testing.provider import Served
from tests.kit import MESSAGES, PRICES, last
from tests.promises.kit import ASK, BIG, SMALL, Opened, cap, caps, listen, refused, refusing, spend, state


def chat(client: openai.OpenAI, guard: Guard, **call: Any) -> None:
    with guard.call(user="u1", model="big", messages=MESSAGES, max_tokens=100, **call) as entered:
        entered.settle(client.chat.completions.create(messages=MESSAGES, **entered.params))


# block


def test_block_raises_before_the_provider_is_called(opened: Opened, fake: Served, oai: openai.OpenAI) -> None:
    """`CapExceeded` before the provider is called: it sees the call that fits and none of those that do not."""
    guard = opened(caps(cap(limit=1)))
    chat(oai, guard)
    spend(guard, 1)
    for _ in range(3):
        with pytest.raises(CapExceeded):
            chat(oai, guard)
    assert fake.provider.calls == 1


def test_block_is_the_default_action(opened: Opened) -> None:
    assert state(opened(caps(cap(limit=1)))).action == "block"


# downgrade

CHAIN = {"opus": {"input": 10, "output": 80}, "sonnet": {"input": 2, "output": 8}, "haiku": {"input": 1, "output": 2}}
STEPS = {"opus": "sonnet", "sonnet": "haiku"}
LONG: dict[str, Any] = {"user": "u1", "model": "opus", "prompt": "x", "max_tokens": 125}  # 0.01001, 0.001002, 0.000251


def test_downgrade_decides_again_at_the_cheaper_models_own_price(opened: Opened) -> None:
    """Two calls of the cheaper model fit under a limit that one call of the dearer one exceeds."""
    guard = opened(caps(cap(limit=2 * SMALL, action="downgrade", to="small"), cap("hard", 2 * SMALL)))
    for _ in range(2):
        reservation = guard.reserve(**ASK)
        assert (reservation.params["model"], reservation.held) == ("small", SMALL)
    assert refusing(guard, **ASK) == ["hard"]


def test_downgrade_is_one_step(opened: Opened) -> None:
    """The journal shows one reserve, of the model that serves, and no trace of a hold on the dearer one."""
    guard = opened(caps(cap(limit="0.001", action="downgrade", to="small")))
    guard.reserve(**ASK)
    (entry,) = guard.entries()
    assert (entry.kind, entry.model, entry.cost, entry.body["facts"]["asked"]) == ("reserve", "small", SMALL, "big")
    assert state(guard).held == SMALL


def test_downgrade_is_not_made_while_the_call_fits(opened: Opened) -> None:
    guard = opened(caps(cap(limit=BIG, action="downgrade", to="small")))
    assert guard.reserve(**ASK).model == "big"
    assert guard.reserve(**ASK).model == "small"


def rewritten_by_nobody(guard: Guard) -> str | None:
    """A host that cannot rewrite the call: the model is no argument of the function."""

    @capped(guard, user="user", model=lambda _: "opus", prompt="prompt")
    def fixed(user: str, prompt: str) -> str | None:
        return current_call().model

    return fixed("u1", "x")


PASSES: dict[str, Any] = {
    "the last candidate": (STEPS, lambda guard: guard.reserve(**LONG).model, "haiku"),
    "a model with no cheaper sibling": ({}, lambda guard: guard.reserve(**LONG).model, "opus"),
    "a host that cannot rewrite the call": (STEPS, rewritten_by_nobody, "opus"),
}


@pytest.mark.parametrize("who", PASSES)
def test_downgrade_lets_the_end_of_the_ladder_pass_flagged(opened: Opened, who: str) -> None:
    """It passes this cap; the entry bears the flag and there is an event."""
    steps, ask, model = PASSES[who]
    guard = opened({"prices": CHAIN, "downgrade": steps, "caps": [cap(limit=0, action="downgrade")]})
    told = listen(guard, "downgraded")
    assert ask(guard) == model
    (reserve,) = [entry for entry in guard.entries() if entry.kind == "reserve"]
    assert "downgrade:c" in reserve.flags
    assert {(event.cap, event.model) for event in told} == {("c", model)}


def test_downgrade_over_two_steps_is_told_once(opened: Opened) -> None:
    """One decision, one cap, one event and one flag, however many models it passes by."""
    guard = opened({"prices": CHAIN, "downgrade": STEPS, "caps": [cap(limit=0, action="downgrade")]})
    told = listen(guard, "downgraded")
    guard.reserve(**LONG)
    assert (len(told), last(guard).flags) == (1, ("downgrade:c",))


@pytest.mark.parametrize("who", PASSES)
def test_downgrade_otherwise_block_refuses_there(opened: Opened, who: str) -> None:
    """`otherwise = "block"` refuses instead, at the same three places."""
    steps, ask, _ = PASSES[who]
    steering = cap(limit=0, action="downgrade", otherwise="block")
    guard = opened({"prices": CHAIN, "downgrade": steps, "caps": [steering]})
    with pytest.raises(CapExceeded) as caught:
        ask(guard)
    assert [each.id for each in caught.value.caps] == ["c"]
    assert list(guard.entries()) == []


def test_downgrade_otherwise_block_still_steers_where_it_can(opened: Opened) -> None:
    steering = cap(limit="0.005", action="downgrade", otherwise="block")
    guard = opened({"prices": CHAIN, "downgrade": STEPS, "caps": [steering]})
    assert guard.reserve(**LONG).model == "sonnet"


# clamp


def clamp(limit: Any = 400, **fields: Any) -> dict[str, Any]:
    return cap("clamp", limit, unit="output_tokens", action="clamp", **fields)


CLAMPED = {
    "fits whole": (400, 0, {}, 400),
    "at most half of the cap for one call": (401, 0, {}, 200),
    "lowered to what still fits": (300, 280, {}, 120),
    "down to the default of 64": (300, 336, {}, 64),
    "below the default of 64: as block": (300, 337, {}, None),
    "down to its own min_output": (300, 390, {"min_output": 10}, 10),
    "below its own min_output: as block": (300, 391, {"min_output": 10}, None),
    "a larger min_output": (300, 300, {"min_output": 101}, None),
    "never raised to min_output": (30, 371, {}, None),
    "a short call that fits is left alone": (30, 370, {}, 30),
}


@pytest.mark.parametrize("row", CLAMPED)
def test_clamp_lowers_the_output_limit(opened: Opened, row: str) -> None:
    """To what still fits: at least `min_output` (64), at most half of the cap for one call; else as `block`."""
    asked, used, fields, left = CLAMPED[row]
    guard = opened(caps(clamp(**fields)))
    if used:
        assert guard.allow(user="u1", amount=used, unit="output_tokens")
    call = {**ASK, "max_tokens": asked}
    if left is None:
        error = refused(guard, **call)
        assert (error.cap.id, error.reason) == ("clamp", "exhausted")
        assert state(guard, "clamp").held == 0
    else:
        assert guard.reserve(**call).params["max_tokens"] == left
        assert state(guard, "clamp").held == left


def test_clamp_is_told(opened: Opened) -> None:
    guard = opened(caps(clamp()))
    told = listen(guard, "clamped")
    guard.reserve(**{**ASK, "max_tokens": 500})
    assert [(event.cap, event.amount) for event in told] == [("clamp", 500)]
    assert last(guard).flags == ("clamp:clamp",)


# throttle


def throttle(limit: int = 1, **fields: Any) -> dict[str, Any]:
    return cap("rpm", limit, **{"unit": "requests", "window": "rolling:60s", "action": "throttle", **fields})


def seconds_waited(clock: ManualClock, guard: Guard) -> float:
    start = clock.now
    guard.reserve(user="u1", cost=0)
    return (clock.now - start).total_seconds()


@pytest.mark.parametrize("other", ["block", "clamp", "downgrade"])
def test_throttle_is_decided_last(opened: Opened, clock: ManualClock, other: str) -> None:
    """Where another cap refuses the call anyhow, nobody waits."""
    fields = {
        "block": cap("other", 0),
        "clamp": cap("other", 10, unit="output_tokens", action="clamp"),
        "downgrade": cap("other", 0, action="downgrade", otherwise="block"),
    }
    guard = opened(caps(throttle(max_wait=3600), fields[other]))
    guard.allow(user="u1", amount=1, unit="requests")
    start = clock.now
    assert set(refusing(guard, **ASK)) == {"rpm", "other"}
    assert clock.now == start


def test_throttle_takes_the_model_that_a_downgrade_chose(opened: Opened, clock: ManualClock) -> None:
    """The way down the models is decided first; the wait is for the one that serves."""
    rpm = throttle(match={"model": "big"})
    guard = opened(caps(rpm, cap("steer", 0, action="downgrade", to="small")))
    start = clock.now
    for _ in range(3):
        assert guard.reserve(**ASK).model == "small"
    assert clock.now == start


def test_throttle_waits_for_room(opened: Opened, clock: ManualClock) -> None:
    """Until the window has let go of what fills it."""
    guard = opened(caps(throttle(max_wait=100)))
    guard.allow(user="u1", amount=0)
    assert 60 <= seconds_waited(clock, guard) < 63


@pytest.mark.parametrize(("fields", "most"), [({}, 30), ({"max_wait": 7}, 7), ({"max_wait": "0.5"}, 0.5)])
def test_throttle_waits_up_to_max_wait(opened: Opened, clock: ManualClock, fields: dict[str, Any], most: float) -> None:
    """30 seconds by default; then it raises."""
    guard = opened(caps(throttle(window="daily", **fields)))
    guard.reserve(user="u1", cost=0)  # held: room may come at any time
    start = clock.now
    error = refused(guard, user="u1", cost=0)
    assert (clock.now - start).total_seconds() == most
    assert (error.reason, error.retryable) == ("throttled", True)


def test_throttle_raises_at_once_when_room_cannot_come_in_time(opened: Opened, clock: ManualClock) -> None:
    """A rolling minute that was just filled is not waited for within 30 s."""
    guard = opened(caps(throttle()))
    guard.allow(user="u1", amount=0)
    start = clock.now
    error = refused(guard, user="u1", cost=0)
    assert (clock.now, error.reason) == (start, "throttled")
    assert error.retry_after is not None
    assert 60 <= error.retry_after <= 62


class Turns(ManualClock):
    """Whoever waits by it stops until the test lets it go on; the last comer first."""

    def __init__(self) -> None:
        super().__init__()
        self.sleepers: list[asyncio.Future[None]] = []

    async def asleep(self, seconds: float) -> None:
        turn = asyncio.get_running_loop().create_future()
        self.sleepers.append(turn)
        await turn

    async def go_on(self) -> None:
        self.advance(milliseconds=100)
        sleepers, self.sleepers = self.sleepers, []
        for turn in reversed(sleepers):
            if not turn.done():
                turn.set_result(None)
            for _ in range(10):
                await asyncio.sleep(0)


async def test_throttle_serves_first_come_first_served() -> None:
    """In a process, whichever of the waiters happens to look first."""
    clock, served = Turns(), list[int]()
    with Guard("memory://", policy=caps(throttle(window="daily", max_wait=3600)), clock=clock) as guard:
        holder = await guard.areserve(user="u1", cost=0)

        async def ask(number: int) -> None:
            reservation = await guard.areserve(user="u1", cost=0)
            served.append(number)
            await guard.arelease(reservation)

        tasks = []
        for number in range(4):
            tasks.append(asyncio.create_task(ask(number)))
            await asyncio.sleep(0)
        await guard.arelease(holder)
        for _ in range(200):
            if len(served) < 4:
                await clock.go_on()
        await asyncio.gather(*tasks)
    assert served == [0, 1, 2, 3]


def test_throttle_polls_with_jitter_across_processes(tmp_path: Any) -> None:
    """Room that another process frees is found by looking again and again, at uneven times."""

    class Freeing(ManualClock):
        def __init__(self) -> None:
            super().__init__()
            self.slept: list[float] = []

        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            self.slept.append(seconds)
            if len(self.slept) == 12:
                there.release(held)

    clock, url = Freeing(), f"sqlite:///{tmp_path}/ledger.db?timeout=30"
    policy = caps(throttle(window="daily"))
    with Guard(url, policy=policy, clock=clock) as here, Guard(url, policy=policy, clock=clock) as there:
        held = there.reserve(user="u1", cost=0)
        assert here.reserve(user="u1", cost=0).caps == ("rpm",)
    assert len(clock.slept) == 12
    assert len(set(clock.slept)) > 3
    assert max(clock.slept) <= 0.25


async def test_throttle_in_a_sync_hook_of_an_event_loop_acts_as_block(opened: Opened, clock: ManualClock) -> None:
    """It must not stop the loop: it refuses at once, with `retry_after`."""
    guard = opened(caps(throttle(max_wait=3600)))
    guard.allow(user="u1", amount=0)
    start = clock.now
    with pytest.raises(CapExceeded) as caught, guard.call(user="u1", cost=0):
        raise AssertionError("the block must not be entered")
    assert clock.now == start
    assert caught.value.retry_after is not None
    assert 60 <= caught.value.retry_after <= 62
    async with guard.call(user="u1", cost=0):  # the asynchronous hook may wait, and does
        assert clock.now - start >= timedelta(seconds=60)


# warn, dry_run


def test_warn_goes_on_with_an_event_and_callbacks(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    guard = opened(caps(cap(limit="0.001", action="warn")))
    told = listen(guard, "warned")
    reservation = guard.reserve(**ASK)
    assert (reservation.model, reservation.decision.warned) == ("big", ("c",))
    assert [(event.cap, event.amount, event.limit) for event in told] == [("c", BIG, Decimal("0.001"))]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_dry_run_goes_on_with_one_log_line(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    guard = opened(caps(cap(limit="0.001", action="dry_run")))
    assert guard.reserve(**ASK).model == "big"
    (record,) = caplog.records
    assert "'c' would have blocked (dry_run)" in record.getMessage()


def test_dry_run_is_counted_by_the_shadow_report(opened: Opened) -> None:
    """Calls, dollars and users that it would have blocked; the one that fitted is not among them."""
    guard = opened(caps(cap(limit=3, action="dry_run")))
    for user, amount in (("u1", 2), ("u1", 2), ("u2", 4), ("u2", 1)):
        guard.settle(guard.reserve(user=user, cost=amount))
    (row,) = guard.report().shadow
    assert (row.cap, row.action, row.calls, row.cost, row.users) == ("c", "dry_run", 3, 7, 2)


# steering and telling are no enforcement


@pytest.mark.parametrize(
    ("fields", "enforces"),
    [
        ({"action": "block"}, True),
        ({"action": "clamp", "unit": "output_tokens"}, True),
        ({"action": "throttle"}, True),
        ({"action": "downgrade", "to": "small"}, False),
        ({"action": "warn"}, False),
        ({"action": "dry_run"}, False),
    ],
    ids=lambda value: value["action"] if isinstance(value, dict) else "",
)
def test_only_block_clamp_and_throttle_enforce(opened: Opened, fields: dict[str, Any], enforces: bool) -> None:
    """`downgrade` steers, `warn` and `dry_run` tell: a spent cap of theirs admits the call."""
    guard = opened({"prices": PRICES, "caps": [cap(limit=0, **fields)]})
    if enforces:
        assert refusing(guard, **ASK) == ["c"]
    else:
        assert guard.reserve(**ASK).caps == ("c",)
