"""What happens when a call does not fit: clamp, throttle, ladders of caps, and where a downgrade may lead."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from capguard import Cap, CapExceeded, Guard, Usage
from capguard.events import Event
from capguard.ledger.waiting import LONGEST_MS
from capguard.testing import ManualClock
from tests.kit import PRICES, last

Opened = Callable[..., Guard]

ASK: dict[str, Any] = {"user": "u1", "model": "big", "prompt": "x"}  # 1 token in; "big" is $10 in, $20 out per million


def clamp(id: str = "clamp", limit: Any = 100, **fields: Any) -> dict[str, Any]:
    return {"id": id, "limit": limit, "unit": "output_tokens", "action": "clamp", "min_output": 10, **fields}


def use(guard: Guard, unit: str, amount: int, **call: Any) -> None:
    """Book an amount, whatever the caps say of it."""
    guard.settle(guard.reserve(user="u1", amount=0, unit=unit, **call), usage=Usage(output_tokens=amount))


# clamp


@pytest.mark.parametrize(
    ("asked", "used", "left"),
    [
        (100, 0, 100),  # fits whole
        (101, 0, 50),  # does not: at most half of the limit
        (60, 45, 50),
        (60, 60, 40),  # what is left
        (60, 90, 10),  # the least that is asked for
        (60, 91, None),
        (10, 91, None),
        (9, 95, None),  # never raised to min_output
        (9, 91, 9),
    ],
)
def test_clamp(opened: Opened, asked: int, used: int, left: int | None) -> None:
    """The output limit is lowered to what fits, at least `min_output`, at most half of the limit; else as block."""
    guard = opened({"prices": PRICES, "caps": [clamp()]})
    use(guard, "output_tokens", used)
    if left is None:
        with pytest.raises(CapExceeded) as refused:
            guard.reserve(**ASK, max_tokens=asked)
        assert refused.value.cap.id == "clamp"
        return
    reservation = guard.reserve(**ASK, max_tokens=asked)
    assert reservation.params == {"model": "big", "max_tokens": left}
    assert guard.status(user="u1").caps["clamp"].held == left
    assert last(guard).flags == (() if left == asked else ("clamp:clamp",))


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens", None])
def test_a_clamp_speaks_the_callers_language(opened: Opened, name: str | None) -> None:
    """The limit comes back under the caller's own name; `max_tokens` where the call names none."""
    guard = opened({"prices": PRICES, "caps": [clamp()]})
    asked = {} if name is None else {name: 500}
    assert guard.reserve(**ASK, **asked).params == {"model": "big", name or "max_tokens": 50}


@pytest.mark.parametrize(
    ("unit", "limit", "left"),
    [
        ("usd", "0.002", 49),  # half is $0.001: 1 token in at $0.00001, 49 out at $0.00002 each
        ("tokens", 200, 99),
        ("output_tokens", 200, 100),
        ("billed", "0.004", 49),
        ("credits", 100, 24),  # 1 per request, 0.5 per token in, 2 per token out: half of 100 is 1 + 0.5 + 2 * 24.25
    ],
)
def test_a_clamp_in_every_unit(opened: Opened, unit: str, limit: Any, left: int) -> None:
    """As many tokens as the cap's unit allows, not one more."""
    credits = {"big": {"request": 1, "input": 500_000, "output": 2_000_000}}
    policy = {
        "default_plan": "p",
        "plans": {"p": {"markup": 2, "caps": [clamp(limit=limit, unit=unit)]}},
        "units": {"credits": credits},
        "prices": PRICES,
    }
    guard = opened(policy)
    reservation = guard.reserve(**ASK, max_tokens=1000)
    usage = Usage(input_tokens=1, output_tokens=reservation.params["max_tokens"])
    guard.settle(reservation, usage=usage)
    half = Decimal(str(limit)) / 2
    settled = guard.status(user="u1").caps["clamp"].settled
    assert settled <= half
    per_token = {"usd": "0.00002", "billed": "0.00004", "credits": "2"}.get(unit, "1")
    assert settled + Decimal(per_token) > half
    assert usage.output_tokens == left


def test_several_clamp_caps(opened: Opened) -> None:
    """The tightest decides, and the largest `min_output`."""
    guard = opened({"prices": PRICES, "caps": [clamp("wide", 1000), clamp("tight", 100, min_output=30)]})
    assert guard.reserve(**ASK, max_tokens=2000).params["max_tokens"] == 50
    use(guard, "output_tokens", 25)
    with pytest.raises(CapExceeded, match="tight"):
        guard.reserve(**ASK, max_tokens=2000)


@pytest.mark.parametrize(
    ("call", "replies"), [({"n": 3}, 3), ({"prompt": ["x", "y"]}, 2), ({"prompt": ["x", "y"], "n": 2}, 4)]
)
def test_a_clamp_counts_every_reply(opened: Opened, call: dict[str, Any], replies: int) -> None:
    """`n` and lists of prompts ask for several replies, each as long as the limit allows."""
    guard = opened({"prices": PRICES, "caps": [clamp(limit=240)]})
    reservation = guard.reserve(**{**ASK, **call}, max_tokens=130)
    assert reservation.params["max_tokens"] == 120 // replies
    assert guard.status(user="u1").caps["clamp"].held == 120


def test_a_block_behind_a_clamp(opened: Opened) -> None:
    """Only clamp caps lower the limit; a block that still does not fit refuses."""
    block = {"id": "block", "limit": 40, "unit": "output_tokens"}
    guard = opened({"prices": PRICES, "caps": [clamp(), block]})
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(**ASK, max_tokens=200)
    assert [cap.id for cap in refused.value.caps] == ["block"]
    assert guard.reserve(**ASK, max_tokens=40).params["max_tokens"] == 40


@pytest.mark.parametrize("known", [{"usage": Usage(output_tokens=150)}, {"amount": 150, "unit": "output_tokens"}])
def test_what_is_known_is_not_clamped(opened: Opened, known: dict[str, Any]) -> None:
    """There is no limit to lower: as block."""
    guard = opened({"prices": PRICES, "caps": [clamp()]})
    with pytest.raises(CapExceeded):
        guard.reserve(user="u1", model="big", **known)
    assert not guard.allow(user="u1", model="big", **known)


async def test_a_replayed_clamp(opened: Opened) -> None:
    """The same id gets the same limit, though by now there would be another one."""
    guard = opened({"prices": PRICES, "caps": [clamp()]})
    first = guard.reserve(**ASK, max_tokens=500, id="once")
    use(guard, "output_tokens", 30)
    for again in (
        guard.reserve(**ASK, max_tokens=500, id="once"),
        await guard.areserve(**ASK, max_tokens=500, id="once"),
    ):
        assert (again.params, again.held) == (first.params, first.held)
    assert guard.status(user="u1").caps["clamp"].held == 50


def test_a_clamped_call_expects_no_more_than_it_holds(opened: Opened, clock: ManualClock) -> None:
    guard = opened({"prices": PRICES, "caps": [clamp()]})
    reservation = guard.reserve(**ASK, max_tokens=500)
    assert reservation.expected <= reservation.held == Decimal("0.00101")
    clock.advance(hours=1)
    guard.check(**ASK, max_tokens=5)
    assert guard.status(user="u1").caps["clamp"].settled == 50


def test_a_clamp_after_a_downgrade(opened: Opened) -> None:
    """The cheaper model is chosen first; the limit is lowered by what fits at its price."""
    caps = [
        {"id": "steer", "limit": "0.001", "action": "downgrade", "to": "small"},
        clamp(limit="0.001", unit="usd"),
    ]
    guard = opened({"prices": PRICES, "caps": caps})
    reservation = guard.reserve(**ASK, max_tokens=1000)
    assert reservation.params == {"model": "small", "max_tokens": 249}
    assert [cap.id for cap in reservation.decision.passed] == ["steer", "clamp"]


# throttle


def throttle(id: str = "rpm", limit: int = 2, **fields: Any) -> dict[str, Any]:
    return {
        "id": id, "limit": limit, "unit": "requests", "window": "rolling:60s", "action": "throttle", "max_wait": 100,
        **fields,
    }  # fmt: skip


def seconds_since(start: Any, clock: ManualClock) -> float:
    return (clock.now - start).total_seconds()


def test_throttle_waits_for_room(opened: Opened, clock: ManualClock) -> None:
    """A rolling minute frees the room of its oldest call: the third waits until that is out of it."""
    guard = opened({"caps": [throttle()]})
    start = clock.now
    for _ in range(3):
        guard.settle(guard.reserve(user="u1", cost=0), cost=0)
    assert 60 <= seconds_since(start, clock) <= 62.1
    guard.settle(guard.reserve(user="u1", cost=0), cost=0)
    assert 60 <= seconds_since(start, clock) <= 62.2
    guard.reserve(user="u1", cost=0)
    assert 120 <= seconds_since(start, clock) <= 124.3


def test_throttle_knows_which_bucket_is_enough(opened: Opened, clock: ManualClock) -> None:
    """60 of 100 tokens, then 30: a call of 50 waits until the 60 are out of the minute, one of 75 for the 30 too."""
    guard = opened({"caps": [throttle(unit="tokens", limit=100)]})
    start = clock.now
    for tokens, seconds in ((60, 10), (30, 0)):
        assert guard.allow(user="u1", usage=Usage(output_tokens=tokens))
        clock.advance(seconds=seconds)
    guard.release(guard.reserve(user="u1", usage=Usage(output_tokens=50)))
    assert 61 <= seconds_since(start, clock) <= 61.1
    guard.reserve(user="u1", usage=Usage(output_tokens=75))
    assert 71 <= seconds_since(start, clock) <= 71.1


async def test_throttle_in_a_loop(opened: Opened, clock: ManualClock) -> None:
    """The same for coroutines: five calls of one user at two a minute take two minutes."""
    guard = opened({"caps": [throttle()]})
    start = clock.now
    for _ in range(5):
        async with guard.call(user="u1", cost=0):
            pass
    assert 120 <= seconds_since(start, clock) <= 124.3


@pytest.mark.parametrize(("max_wait", "waits"), [(62, True), (59, False), ("0.5", False)])
def test_throttle_raises_at_once_when_room_cannot_come(
    opened: Opened, clock: ManualClock, max_wait: Any, waits: bool
) -> None:
    """Nobody sits out a wait that cannot end well."""
    guard = opened({"caps": [throttle(limit=1, max_wait=max_wait)]})
    guard.allow(user="u1", amount=0)
    start = clock.now
    if waits:
        guard.reserve(user="u1", cost=0)
        return
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(user="u1", cost=0)
    assert seconds_since(start, clock) == 0
    assert (refused.value.reason, refused.value.retryable, refused.value.retry_after) == ("throttled", True, 61)


def test_throttle_gives_up_after_max_wait(opened: Opened, clock: ManualClock) -> None:
    """Room that others hold may come at any time: it is waited for, no longer than `max_wait`, then said to be soon."""
    guard = opened({"caps": [throttle(limit=1, max_wait=5)]})
    guard.reserve(user="u1", cost=0)
    start = clock.now
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(user="u1", cost=0)
    assert seconds_since(start, clock) == 5
    assert (refused.value.reason, refused.value.retry_after) == ("throttled", 1)


def test_a_call_that_never_fits_is_not_waited_for(opened: Opened, clock: ManualClock) -> None:
    guard = opened({"caps": [throttle(unit="tokens", limit=10)]})
    start = clock.now
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(user="u1", usage=Usage(output_tokens=11))
    assert (refused.value.reason, refused.value.retryable, seconds_since(start, clock)) == ("too_big", False, 0)


def test_throttle_is_decided_last(opened: Opened, clock: ManualClock) -> None:
    """Where another cap refuses too, waiting would not help."""
    guard = opened({"caps": [throttle(limit=1), {"id": "block", "limit": 1}]})
    guard.allow(user="u1", amount=1)
    start = clock.now
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(user="u1", cost=1)
    assert ([cap.id for cap in refused.value.caps], seconds_since(start, clock)) == (["rpm", "block"], 0)
    assert not refused.value.retryable


async def test_a_sync_reserve_in_a_loop_does_not_wait(opened: Opened, clock: ManualClock) -> None:
    """It would stop the loop: it acts as block and says when to come back. `allow` never waits either."""
    guard = opened({"caps": [throttle(limit=1)]})
    guard.reserve(user="u1", cost=0)
    guard.settle(guard.reserve(user="u2", cost=0), cost=0)
    start = clock.now
    for user, after in (("u1", 1), ("u2", 61)):
        with pytest.raises(CapExceeded) as refused:
            guard.reserve(user=user, cost=0)
        assert refused.value.retry_after == after
        assert not guard.allow(user=user, amount=0)
        assert not await guard.aallow(user=user, amount=0)
    assert clock.now == start


class Turns(ManualClock):
    """Whoever waits by it stops until the test lets time pass for all."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def asleep(self, seconds: float) -> None:
        turn = asyncio.get_running_loop().create_future()
        self.waiting.append((self() + int(seconds * 1000), turn))
        await turn

    async def pass_time(self, seconds: float) -> None:
        """Move on in steps, waking whoever is due."""
        end = self.now + timedelta(seconds=seconds)
        while self.now < end:
            await self.settle_down()
            self.advance(milliseconds=LONGEST_MS // 5)
            due = [turn for at, turn in self.waiting if at <= self() and not turn.done()]
            self.waiting = [(at, turn) for at, turn in self.waiting if at > self()]
            for turn in reversed(due):  # the last first: a line that is no line would show
                turn.set_result(None)
                await self.settle_down()

    @staticmethod
    async def settle_down() -> None:
        for _ in range(20):
            await asyncio.sleep(0)


async def test_first_come_first_served() -> None:
    """Whoever comes to a busy cap goes behind those who wait, also where there is room at that moment."""
    clock = Turns()
    served: list[int] = []
    with Guard("memory://", policy={"caps": [throttle(limit=1, max_wait=1000)]}, clock=clock) as guard:

        async def ask(number: int) -> None:
            async with guard.call(user="u1", cost=0):
                served.append(number)

        tasks = [asyncio.create_task(ask(0))]
        await clock.settle_down()
        for number in range(1, 5):
            tasks.append(asyncio.create_task(ask(number)))
            await clock.settle_down()
        clock.advance(seconds=62)  # there is room for one now, and nobody has looked yet
        tasks.append(asyncio.create_task(ask(5)))
        await clock.settle_down()
        assert served == [0]
        while len(served) < 6:
            await clock.pass_time(10)
        await asyncio.gather(*tasks)
    assert served == [0, 1, 2, 3, 4, 5]


async def test_a_cancelled_waiter_leaves_the_line() -> None:
    """Those behind it move up; nothing stays behind."""
    clock = Turns()
    with Guard("memory://", policy={"caps": [throttle(limit=1, max_wait=1000)]}, clock=clock) as guard:
        guard.allow(user="u1", amount=0)
        first, second = (asyncio.create_task(guard.areserve(user="u1", cost=0)) for _ in range(2))
        await clock.settle_down()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        while not second.done():
            await clock.pass_time(10)
        assert second.result().caps == ("rpm",)
        assert not guard._line
        assert [entry.kind for entry in guard.entries()] == ["book", "reserve"]


async def test_waiting_does_not_block_the_loop(opened: Opened) -> None:
    """While a call waits by the real clock, other tasks run."""
    guard = opened({"caps": [throttle(limit=1, max_wait=30)]}, clock=None)
    holder = await guard.areserve(user="u1", cost=0)
    waiting = asyncio.create_task(guard.areserve(user="u1", cost=0))
    other = await guard.areserve(user="u2", cost=0)
    assert not waiting.done()
    await guard.arelease(holder)
    await guard.arelease(other)
    assert (await waiting).caps == ("rpm",)


async def test_fifty_tasks(opened: Opened) -> None:
    """Ten at a time through one throttle: every one is served, never more than ten are held."""
    guard = opened({"caps": [throttle(limit=10, per=[], window="daily", max_wait=3600)]}, clock=None)
    inside = most = 0

    async def ask(number: int) -> None:
        nonlocal inside, most
        async with guard.call(user=f"u{number}", cost=0) as call:
            inside, most = inside + 1, max(most, inside + 1)
            await asyncio.sleep(0)
            call.release()
            inside -= 1

    await asyncio.gather(*(ask(number) for number in range(50)))
    assert (inside, most <= 10, guard.status().caps["rpm"].held) == (0, True, 0)


def test_threads_wait_in_line(opened: Opened) -> None:
    """Twelve threads, one place: all are served."""
    guard = opened({"caps": [throttle(limit=1, window="daily", max_wait=3600)]}, clock=None)
    served = []

    def ask() -> None:
        with guard.call(user="u1", cost=0) as call:
            served.append(call.id)
            call.release()

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(served)) == 12


def test_a_wait_is_no_refusal(opened: Opened, clock: ManualClock) -> None:
    """However often it looks for room, a call that gets it was not refused; one that gives up was, once."""
    guard = opened({"caps": [throttle(limit=1, max_wait=5, window="every:10s")]})
    told: list[str] = []
    guard.on("*", lambda event: told.append(event.name))
    held = guard.reserve(user="u1", cost=0)
    with pytest.raises(CapExceeded):
        guard.reserve(user="u1", cost=0)
    assert told == ["throttled", "denied"]
    guard.release(held)
    guard.settle(guard.reserve(user="u1", cost=0), cost=0)
    clock.advance(seconds=3)
    told.clear()
    guard.reserve(user="u1", cost=0)
    assert told == ["throttled"]
    refusals = [line.count for line in guard.log() if line.kind == "denied"]
    assert refusals == [1]


# ladders and chains

CHAIN = {"opus": {"input": 10, "output": 80}, "sonnet": {"input": 2, "output": 8}, "haiku": {"input": 1, "output": 2}}
LADDER = [
    {"id": "notice", "limit": 40, "action": "warn"},
    {"id": "cheaper", "limit": 49, "action": "downgrade"},
    {"id": "hard", "limit": 60},
]


@pytest.mark.parametrize(
    ("spent", "model", "passed"),
    [
        (0, "big", []),
        ("39.9979", "big", []),
        (40, "big", ["notice"]),
        ("48.9979", "big", ["notice"]),
        (49, "small", ["cheaper", "notice"]),
        ("59.9979", "small", ["cheaper", "notice"]),
        (60, None, []),
    ],
)
async def test_a_ladder(opened: Opened, spent: Any, model: str | None, passed: list[str]) -> None:
    """Warned at 40, on a cheaper model from 49, refused at 60; the call needs $0.00201."""
    guard = opened({"prices": PRICES, "caps": LADDER, "downgrade": {"big": "small"}})
    guard.settle(guard.reserve(user="u1", cost=0), cost=spent)
    if model is None:
        with pytest.raises(CapExceeded) as refused:
            await guard.areserve(**ASK, max_tokens=100)
        assert [cap.id for cap in refused.value.caps] == ["hard"]
        return
    first = await guard.areserve(**ASK, max_tokens=100)
    await guard.arelease(first)
    for reservation in (first, guard.reserve(**ASK, max_tokens=100)):
        assert reservation.model == reservation.params["model"] == model
        assert [cap.id for cap in reservation.decision.passed] == passed


@pytest.mark.parametrize(
    ("room", "model"), [("0.01001", "opus"), ("0.00999", "sonnet"), ("0.00101", "sonnet"), ("0.001", "haiku")]
)
def test_a_chain(opened: Opened, room: str, model: str) -> None:
    """Each cheaper model is tried at its own price, in one round trip; the last passes the cap that steers."""
    chain = {"opus": "sonnet", "sonnet": "haiku"}
    guard = opened({"prices": CHAIN, "downgrade": chain, "caps": [{"id": "c", "limit": room, "action": "downgrade"}]})
    reservation = guard.reserve(user="u1", model="opus", prompt="x", max_tokens=125)
    assert reservation.model == model


@pytest.mark.parametrize(("otherwise", "model"), [("pass", "haiku"), ("block", None)])
def test_the_end_of_a_chain(opened: Opened, otherwise: str, model: str | None) -> None:
    """Where there is nothing cheaper the call passes, or is refused, as the cap says."""
    cap = {"id": "c", "limit": 0, "action": "downgrade", "otherwise": otherwise}
    guard = opened({"prices": CHAIN, "downgrade": {"opus": "haiku"}, "caps": [cap]})
    if model is None:
        with pytest.raises(CapExceeded):
            guard.reserve(user="u1", model="opus", prompt="x", max_tokens=125)
    else:
        assert guard.reserve(user="u1", model="opus", prompt="x", max_tokens=125).model == model


def test_two_caps_that_steer(opened: Opened) -> None:
    """Each with its own target; the one that leads further decides, and a cap is judged on the model it counts."""
    caps = [
        {"id": "map", "limit": "0.01", "action": "downgrade"},
        {"id": "own", "limit": "0.005", "action": "downgrade", "to": "haiku", "match": {"model": ["opus", "sonnet"]}},
        {"id": "sonnets", "limit": 0, "match": {"model": "sonnet"}},
    ]
    guard = opened({"prices": CHAIN, "downgrade": {"opus": "sonnet", "sonnet": "haiku"}, "caps": caps})
    reservation = guard.reserve(user="u1", model="opus", prompt="x", max_tokens=125)
    assert (reservation.model, reservation.caps) == ("haiku", ("map",))


def test_a_candidate_has_caps_of_its_own(opened: Opened) -> None:
    """A block that only the cheaper model meets refuses the call that is sent there."""
    caps = [
        {"id": "steer", "limit": 0, "action": "downgrade", "to": "haiku"},
        {"id": "haikus", "limit": 0, "match": {"model": "haiku"}},
    ]
    guard = opened({"prices": CHAIN, "caps": caps})
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(user="u1", model="opus", prompt="x", max_tokens=125)
    assert [cap.id for cap in refused.value.caps] == ["haikus"]


def test_at_most_eight_models(opened: Opened) -> None:
    """Through caps of their own: the eighth is the last."""
    names = [f"m{number}" for number in range(12)]
    prices = {name: {"input": 1, "output": 20 - number} for number, name in enumerate(names)}
    caps = [
        {"id": here, "limit": 0, "action": "downgrade", "to": there, "match": {"model": here}}
        for here, there in pairwise(names)
    ]
    guard = opened({"prices": prices, "caps": caps})
    assert guard.reserve(user="u1", model="m0", prompt="x", max_tokens=1).model == "m7"


def test_a_call_that_cannot_be_rewritten_is_not_steered(opened: Opened) -> None:
    """`allow` has no model to rewrite: it passes a cap that steers."""
    guard = opened({"prices": CHAIN, "caps": [{"id": "c", "limit": 0, "action": "downgrade", "to": "haiku"}]})
    decision = guard.allow(user="u1", model="opus", amount=1)
    assert (decision.allowed, decision.model, [cap.id for cap in decision.passed]) == (True, "opus", ["c"])


# what a model must be able to do

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}]}]
TEXT = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("call", "model", "unfit"),
    [
        ({"messages": TEXT}, "gpt-3.5-turbo-instruct", []),
        ({"messages": TEXT, "tools": []}, "gpt-3.5-turbo-instruct", []),
        ({"messages": TEXT, "tools": TOOLS}, "gpt-3.5-turbo", ["gpt-3.5-turbo-instruct"]),
        ({"messages": IMAGE}, "unheard-of", ["gpt-3.5-turbo-instruct", "gpt-3.5-turbo"]),
        ({"messages": IMAGE, "tools": TOOLS}, "unheard-of", ["gpt-3.5-turbo-instruct", "gpt-3.5-turbo"]),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://example.org/c.png"}]}]},
         "unheard-of", ["gpt-3.5-turbo-instruct", "gpt-3.5-turbo"]),
    ],
)  # fmt: skip
def test_tools_and_images_go_to_models_that_take_them(
    opened: Opened, call: dict[str, Any], model: str, unfit: list[str]
) -> None:
    """A cheaper model that is known to lack one is passed by, flagged; one that nobody knows is trusted."""
    chain = {
        "gpt-4o": "gpt-3.5-turbo-instruct",
        "gpt-3.5-turbo-instruct": "gpt-3.5-turbo",
        "gpt-3.5-turbo": "unheard-of",
    }
    cap = {"id": "c", "limit": "0.0001", "action": "downgrade", "match": {"model": "gpt-4o"}}
    guard = opened({"downgrade": chain, "caps": [cap], "prices": {"unheard-of": {"input": "0.1", "output": "0.1"}}})
    told: list[Event] = []
    guard.on("downgraded", told.append)
    reservation = guard.reserve(user="u1", model="gpt-4o", max_tokens=100, **call)
    assert reservation.model == model
    assert [flag for flag in last(guard).flags if "unfit" in flag] == [f"unfit:{name}" for name in unfit]
    assert told[0].detail.get("unfit", ()) == tuple(unfit)


@pytest.mark.parametrize("otherwise", ["pass", "block"])
def test_where_no_cheaper_model_takes_tools(opened: Opened, otherwise: str) -> None:
    """The call stays on its model, or is refused, as the cap says; a call without tools goes on being steered."""
    cap = {"id": "c", "limit": "0.0001", "action": "downgrade", "to": "gpt-3.5-turbo-instruct", "otherwise": otherwise}
    guard = opened({"caps": [{**cap, "match": {"model": "gpt-4o"}}]})
    ask = {"user": "u1", "model": "gpt-4o", "messages": TEXT, "max_tokens": 100}
    assert guard.reserve(**ask).model == "gpt-3.5-turbo-instruct"
    if otherwise == "pass":
        assert guard.reserve(**ask, tools=TOOLS).model == "gpt-4o"
    else:
        with pytest.raises(CapExceeded):
            guard.reserve(**ask, tools=TOOLS)


def test_a_steering_cap_of_one_call(opened: Opened) -> None:
    """Also a cap that comes with the call knows what the call needs."""
    cap = Cap(id="c", limit=0, action="downgrade", to="gpt-3.5-turbo-instruct")
    guard = opened({})
    assert guard.reserve(user="u1", model="gpt-4o", prompt="x", caps=[cap]).model == "gpt-3.5-turbo-instruct"
    assert guard.reserve(user="u1", model="gpt-4o", prompt="x", tools=TOOLS, caps=[cap]).model == "gpt-4o"
