"""One call: reserved as its block is entered, and booked once, whichever way it is left."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import openai
import pytest

from capguard import (
    BackendUnavailable,
    CapExceeded,
    Guard,
    IdempotencyMismatch,
    PolicyError,
    UnknownModel,
    Usage,
    carry,
    current_call,
)
from capguard.backends.base import Backend
from capguard.ledger.commands import Command, Release, Reserve, Settle
from capguard.ledger.outcomes import Outcome
from capguard.testing.provider import Served
from tests.kit import ASK, CALL, MESSAGES, POLICY, held, in_call, kinds, last, spent

Opened = Callable[..., Guard]
WAYS = pytest.mark.parametrize("way", ["sync", "async"])


def chat(client: openai.OpenAI, call: Any) -> Any:
    return client.chat.completions.create(messages=MESSAGES, **call.params)


REPLIES: dict[str, tuple[dict[str, Any], Callable[[openai.OpenAI, anthropic.Anthropic, Any], Any], str]] = {
    "chat": (CALL, lambda oai, _, call: chat(oai, call), "0.012"),
    "raw": (
        CALL,
        lambda oai, _, call: oai.chat.completions.with_raw_response.create(messages=MESSAGES, **call.params),
        "0.012",
    ),
    "responses": (
        {"user": "u1", "model": "big", "input": "Say something.", "max_output_tokens": 100},
        lambda oai, _, call: oai.responses.create(input="Say something.", **call.params),
        "0.012",
    ),
    "embeddings": (
        {"user": "u1", "model": "embed", "input": ["one", "two"]},
        lambda oai, _, call: oai.embeddings.create(input=["one", "two"], **call.params),
        "0.001",
    ),
    "anthropic": (CALL, lambda _, claude, call: claude.messages.create(messages=MESSAGES, **call.params), "0.012"),
}


@pytest.mark.parametrize("shape", REPLIES)
def test_a_reply_settles_the_call(opened: Opened, fake: Served, oai, claude, shape: str):
    """What the real SDKs return is booked by the usage that it reports, and nothing is held any more."""
    asked, ask, cost = REPLIES[shape]
    fake.provider.set(input_tokens=1000, output_tokens=100)
    guard = opened(POLICY)
    with guard.call(**asked) as call:
        assert held(guard) == call.reservation.held > 0
        call.settle(ask(oai, claude, call))
    assert (last(guard).kind, last(guard).cost, last(guard).flags) == ("settle", Decimal(cost), ())
    assert (spent(guard), held(guard)) == (Decimal(cost), 0)


SETTLES: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "usage": ({"usage": Usage(input_tokens=1000, output_tokens=100)}, "0.012", ()),
    "text": ({"cost": "0.0123"}, "0.0123", ("given",)),
    "Decimal": ({"cost": Decimal("0.25")}, "0.25", ("given",)),
    "int": ({"cost": 1}, "1", ("given",)),
    "float": ({"cost": 0.1}, "0.1", ("given",)),
    "nothing": ({"cost": 0}, "0", ("given",)),
    "above the estimate": ({"cost": 7}, "7", ("given",)),
}


@WAYS
@pytest.mark.parametrize("said", SETTLES)
async def test_what_settle_says_is_booked(opened: Opened, way: str, said: str):
    """A usage at the call's rates, or a cost as it stands."""
    arguments, cost, flags = SETTLES[said]
    guard = opened(POLICY)
    await in_call(guard, way, lambda call: call.settle(**arguments), **CALL)
    assert (last(guard).cost, last(guard).flags) == (Decimal(cost), flags)
    assert spent(guard) == Decimal(cost)


def leave(call: Any) -> None:
    """Do nothing, as a forgotten settle does."""


def settle_and_fail(call: Any) -> None:
    call.settle(cost=2)
    raise ValueError("the reply could not be parsed")


def release_and_fail(call: Any) -> None:
    call.release()
    raise ValueError("nothing was sent")


def change_of_mind(call: Any) -> None:
    call.release()
    call.settle(cost=2)


def no_answer(call: Any) -> None:
    call.settle(object())


def raising(error: BaseException) -> Callable[[Any], None]:
    def body(call: Any) -> None:
        raise error

    return body


UNCERTAIN = ("settle", "expected", ("uncertain",))
RELEASED = ("release", "0", ())
ENDINGS: dict[str, tuple[Callable[[Any], None], tuple[str, str, tuple[str, ...]]]] = {
    "left without settle": (leave, UNCERTAIN),
    "settled by what tells no usage": (no_answer, ("settle", "expected", ("uncertain", "no_usage"))),
    "released": (lambda call: call.release(), RELEASED),
    "released, then an exception": (release_and_fail, RELEASED),
    "settled, then an exception": (settle_and_fail, ("settle", "2", ("given",))),
    "the last word counts": (change_of_mind, ("settle", "2", ("given",))),
    "an exception": (raising(ValueError("after the reply")), UNCERTAIN),
    "a timeout": (raising(TimeoutError()), UNCERTAIN),
    "Ctrl-C": (raising(KeyboardInterrupt()), UNCERTAIN),
    "the task is cancelled": (raising(asyncio.CancelledError()), UNCERTAIN),
    "the generator is closed": (raising(GeneratorExit()), UNCERTAIN),
    "no connection": (raising(ConnectionRefusedError()), RELEASED),
    "a wrong argument": (lambda call: call.settle(cost=float("nan")), UNCERTAIN),
}


@WAYS
@pytest.mark.parametrize("ending", ENDINGS)
async def test_every_way_out_books_once(opened: Opened, way: str, ending: str):
    """Known to be unbilled: released. Anything else nobody settled: the expected cost, flagged uncertain."""
    body, (kind, cost, flags) = ENDINGS[ending]
    guard = opened(POLICY)
    with contextlib.suppress(ValueError, OSError, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit):
        await in_call(guard, way, body, **CALL)
    made, end = guard.entries()
    wanted = guard.check(**CALL) and made.body["expected"]["usd"] if cost == "expected" else int(cost) * 10**9
    assert (end.kind, end.amounts.get("usd", 0), end.flags) == (kind, Decimal(wanted) / 10**9, flags)
    assert held(guard) == 0


@pytest.fixture
def deaf() -> str:
    """A URL on loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    return f"http://127.0.0.1:{port}/v1"


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 529])
def test_an_error_status_releases(opened: Opened, fake: Served, oai: openai.OpenAI, claude, status: int):
    """The provider refused the call, so nothing was billed: the hold is gone at once, not after its expiry."""
    fake.provider.set(fail_status=status)
    guard = opened(POLICY)
    with pytest.raises(openai.APIStatusError), guard.call(**CALL) as call:
        chat(oai, call)
    with pytest.raises(anthropic.APIStatusError), guard.call(**CALL) as call:
        claude.messages.create(messages=MESSAGES, **call.params)
    assert kinds(guard) == ["reserve", "release"] * 2
    assert (spent(guard), held(guard)) == (0, 0)


async def test_no_connection_releases(opened: Opened, deaf: str):
    """A closed port, sync and async: nothing was sent."""
    guard = opened(POLICY)
    with (
        openai.OpenAI(base_url=deaf, api_key="any", max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
        guard.call(**CALL) as call,
    ):
        chat(client, call)
    async with openai.AsyncOpenAI(base_url=deaf, api_key="any", max_retries=0) as aclient:
        with pytest.raises(openai.APIConnectionError):
            async with guard.call(**CALL) as call:
                await aclient.chat.completions.create(messages=MESSAGES, **call.params)
    assert kinds(guard) == ["reserve", "release"] * 2


@pytest.mark.parametrize("settings", [{"latency": 5.0}, {"disconnect_after": 0}])
def test_a_call_without_an_answer_is_uncertain(opened: Opened, fake: Served, oai: openai.OpenAI, settings):
    """A time-out or a dropped connection proves nothing: the provider may bill, so the expected cost is booked."""
    fake.provider.set(**settings)
    guard = opened(POLICY)
    with pytest.raises(openai.APIConnectionError), guard.call(**CALL) as call:
        oai.with_options(timeout=0.2).chat.completions.create(messages=MESSAGES, **call.params)
    assert (last(guard).kind, last(guard).flags) == ("settle", ("uncertain",))
    assert spent(guard) == call.reservation.expected


async def test_fifty_parallel_calls_and_room_for_four(opened: Opened, fake: Served, aoai: openai.AsyncOpenAI):
    """The cap is decided before the provider is called: exactly four of fifty reach it."""
    guard = opened(POLICY)
    one = guard.reserve(**CALL)
    guard.release(one)
    guard = opened({**POLICY, "caps": [{"id": "four", "limit": str(one.held * 4 + one.held / 2)}]})
    going = asyncio.Semaphore(0)

    async def ask() -> None:
        async with guard.call(**CALL) as call:
            await going.acquire()
            call.settle(await aoai.chat.completions.create(messages=MESSAGES, **call.params))

    tasks = [asyncio.create_task(ask()) for _ in range(50)]
    while sum(task.done() for task in tasks) < 46:
        await asyncio.wait([task for task in tasks if not task.done()], return_when=asyncio.FIRST_COMPLETED)
    for _ in range(4):
        going.release()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [end for end in ends if isinstance(end, CapExceeded)]
    assert (fake.provider.calls, len(refused)) == (4, 46)
    assert {(end.reason, end.retryable) for end in refused} == {("in_flight", True)}
    assert held(guard, "four") == 0


# the block


def test_params_are_what_the_provider_is_to_get(opened: Opened):
    """The model, and the output limit under the name that the caller used for it; nothing else."""
    guard = opened(POLICY)
    cases = [
        ({}, {"model": "big"}),
        ({"max_tokens": 7}, {"model": "big", "max_tokens": 7}),
        ({"max_completion_tokens": 7}, {"model": "big", "max_completion_tokens": 7}),
        ({"max_output_tokens": 0}, {"model": "big", "max_output_tokens": 0}),
    ]
    for limit, params in cases:
        with guard.call(user="u1", model="big", messages=MESSAGES, **limit) as call:
            assert (call.params, call.model, call.id) == (params, "big", call.reservation.id)
            call.params["model"] = "changed"
            assert call.params == params


@WAYS
@pytest.mark.parametrize("when", ["before the settle", "after the settle", "after the block"])
async def test_a_call_is_entered_once(opened: Opened, way: str, when: str):
    """Entering it again is an error that says so, and takes nothing from the first time."""
    guard = opened(POLICY)
    call = guard.call(**CALL)

    def again() -> None:
        with pytest.raises(RuntimeError, match="entered once"), call:
            raise AssertionError("entered twice")

    def body() -> None:
        if when == "before the settle":
            again()
        else:
            call.settle(cost=2)
        if when == "after the settle":
            again()

    if way == "sync":
        with call:
            body()
    else:
        async with call:
            body()
    if when == "after the block":
        again()
        with pytest.raises(RuntimeError, match="entered once"):
            await call.__aenter__()
    cost = call.reservation.expected if when == "before the settle" else 2
    assert (kinds(guard), spent(guard), held(guard)) == (["reserve", "settle"], cost, 0)


@WAYS
async def test_a_call_whose_id_has_ended_is_not_entered(opened: Opened, way: str):
    """Nothing is held for a second attempt under the id of a call that was released: it is refused."""
    guard = opened(POLICY)
    guard.release(guard.reserve(**CALL, id="job-1"))
    call = guard.call(**CALL, id="job-1")
    with pytest.raises(IdempotencyMismatch, match="job-1 was released; nothing is held under it"):
        await call.__aenter__() if way == "async" else call.__enter__()
    assert kinds(guard) == ["reserve", "release"]


@pytest.mark.parametrize(
    "use",
    [
        lambda call: call.params,
        lambda call: call.model,
        lambda call: call.id,
        lambda call: call.settle(cost=1),
        lambda call: call.release(),
        lambda call: call.stream([]),
    ],
)
def test_a_call_that_was_not_entered_has_nothing(opened: Opened, use: Callable[[Any], Any]):
    """Every use before the block says what is missing."""
    call = opened(POLICY).call(**CALL)
    with pytest.raises(RuntimeError, match="not reserved yet"):
        use(call)


def test_a_settle_after_the_block_is_told(opened: Opened, caplog: pytest.LogCaptureFixture):
    """The call is booked when its block is left; what comes later changes nothing, and the log says so."""
    guard = opened(POLICY)
    with guard.call(**CALL) as call:
        pass
    call.settle(cost=3)
    assert spent(guard) == call.reservation.expected
    assert call.id in caplog.text
    assert "booked already" in caplog.text


async def test_made_in_one_place_and_entered_in_another(opened: Opened):
    """An endpoint makes the call, the generator that streams enters it, in a context of its own."""
    guard = opened(POLICY)
    call = guard.call(**CALL)

    async def elsewhere() -> None:
        async with call:
            call.settle(cost=2)

    await asyncio.create_task(elsewhere(), context=contextvars.Context())
    assert spent(guard) == 2


async def test_entered_in_one_context_and_left_in_another(opened: Opened):
    """A block may span contexts, as a fixture's or a framework's does: later calls are calls of their own."""
    guard = opened(POLICY)
    call = guard.call(**CALL)
    await asyncio.create_task(call.__aenter__())
    call.settle(cost=1)
    await asyncio.create_task(call.__aexit__(None, None, None))
    with guard.call(**CALL) as other:
        other.settle(cost=1)
    assert (spent(guard), other.id != call.id) == (2, True)


def test_blocks_that_are_left_crosswise(opened: Opened):
    """Two calls, opened and closed in the same order: the first is taken over by the second, and no more."""
    guard = opened(POLICY)
    first, second = guard.call(**CALL), guard.call(**CALL)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.settle(cost=1)
    second.__exit__(None, None, None)
    with pytest.raises(LookupError):
        current_call()
    assert kinds(guard) == ["reserve", "settle"]


# cancelled


class Slow:
    """A backend on another one that waits before or after commands of some kinds, so that a test can cancel there."""

    def __init__(self, backend: Backend, *kinds: type, after: bool = False):
        self.url = backend.url
        self.arrived = asyncio.Event()
        self._backend = backend
        self._kinds = kinds
        self._after = after

    def execute(self, command: Command) -> Outcome:
        return self._backend.execute(command)

    async def aexecute(self, command: Command) -> Outcome:
        """As the contract says: once begun, it is carried out to its end whatever happens to the caller."""
        outcome = self._backend.execute(command)
        if isinstance(command, self._kinds):
            self.arrived.set()
            await asyncio.sleep(60)
        return outcome

    def close(self) -> None:
        self._backend.close()


def slowed(guard: Guard, *kinds: type) -> Slow:
    guard._backend = slow = Slow(guard._backend, *kinds)
    return slow


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("where", ["in the block", "in the settle"])
async def test_cancelled(opened: Opened, times: int, where: str):
    """Cancelled once or twice, in the block or while it is booked: booked once, and nothing stays held."""
    guard = opened(POLICY)
    inside = asyncio.Event()
    slow = slowed(guard, Settle)

    async def ask() -> None:
        async with guard.call(**CALL):
            inside.set()
            if where == "in the block":
                await asyncio.sleep(60)

    task = asyncio.create_task(ask())
    await inside.wait()
    if where == "in the settle":
        await slow.arrived.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    if where == "in the block" and times == 1:
        await slow.arrived.wait()
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert kinds(guard) == ["reserve", "settle"]
    assert (last(guard).flags, held(guard)) == (("uncertain",), 0)


@pytest.mark.parametrize("verb", ["call", "areserve"])
async def test_cancelled_while_it_reserves(opened: Opened, verb: str):
    """The caller never learns of the hold, so the call is not made: the hold is dropped."""
    guard = opened(POLICY)
    slow = slowed(guard, Reserve)

    async def ask() -> None:
        if verb == "areserve":
            await guard.areserve(**CALL)
        async with guard.call(**CALL):
            raise AssertionError("the block was entered")

    task = asyncio.create_task(ask())
    await slow.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert kinds(guard) == ["reserve", "release"]
    assert (spent(guard), held(guard)) == (0, 0)


async def test_many_cancelled_at_random(opened: Opened):
    """Whenever the cancel comes, at rest nothing is held and every call is booked at most once."""
    guard = opened(POLICY)

    async def ask() -> None:
        async with guard.call(**CALL) as call:
            await asyncio.sleep(0)
            call.settle(cost="0.01")

    tasks = [asyncio.create_task(ask()) for _ in range(40)]
    for number, task in enumerate(tasks):
        for _ in range(number % 7):
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await guard.averify()
    guard.close()  # waits for what runs in worker threads
    assert held(guard) == 0
    ends = [entry.id for entry in guard.entries() if entry.kind != "reserve"]
    assert len(ends) == len(set(ends))


# a backend that is away


class Away:
    """A backend that answers until it is switched off for some kinds of commands."""

    def __init__(self, backend: Backend):
        self.url = backend.url
        self.refuses: tuple[type, ...] = ()
        self._backend = backend

    def execute(self, command: Command) -> Outcome:
        if isinstance(command, self.refuses):
            raise BackendUnavailable("the store is away")
        return self._backend.execute(command)

    async def aexecute(self, command: Command) -> Outcome:
        return self.execute(command)

    def close(self) -> None:
        self._backend.close()


@WAYS
@pytest.mark.parametrize("verb", ["settle", "release"])
async def test_a_reply_is_never_turned_into_an_exception(
    opened: Opened, clock, caplog: pytest.LogCaptureFixture, way: str, verb: str
):
    """The store is away at the settle: the reply is given, the log says it, and the hold's expiry books it."""
    guard = opened(POLICY)
    guard._backend = away = Away(guard._backend)

    def body(call: Any) -> str:
        away.refuses = (Settle, Release)
        call.release() if verb == "release" else call.settle(cost=2)
        return "the reply"

    assert await in_call(guard, way, body, **CALL) == "the reply"
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    reserved = next(iter(guard.entries()))
    assert reserved.id in record.getMessage()
    assert verb in record.getMessage()
    clock.advance(hours=1)
    away.refuses = ()
    guard.reserve(**CALL)
    assert spent(guard) == Decimal(reserved.body["expected"]["usd"]) / 10**9


@WAYS
async def test_a_backend_that_is_away_is_no_refusal(opened: Opened, way: str):
    """It raises BackendUnavailable before the block, never CapExceeded."""
    guard = opened(POLICY)
    guard._backend = away = Away(guard._backend)
    away.refuses = (Reserve,)
    with pytest.raises(BackendUnavailable) as caught:
        await in_call(guard, way, leave, **CALL)
    assert not isinstance(caught.value, CapExceeded)


# a cost that was known before, and what a reply then says


KNOWN: dict[str, tuple[dict[str, Any], dict[str, Any], str, tuple[str, ...]]] = {
    "a usage without a model": ({"cost": "0.5"}, {"usage": Usage(input_tokens=1000)}, "0.5", ("uncertain",)),
    "a usage with a model": ({"cost": "0.5"}, {"usage": Usage(model="big", input_tokens=1000)}, "0.01", ()),
    "a cost": ({"cost": "0.5"}, {"cost": "0.4"}, "0.4", ("given",)),
    "a usage that was known": ({"usage": Usage(model="big", input_tokens=1000)}, {}, "0.01", ("uncertain",)),
}


@pytest.mark.parametrize("case", KNOWN)
def test_a_known_cost_is_not_lost(opened: Opened, case: str):
    """A settle that tells tokens but no price books the cost that was known, not nothing."""
    known, said, cost, flags = KNOWN[case]
    guard = opened(POLICY)
    with guard.call(user="u1", **known) as call:
        if said:
            call.settle(**said)
    assert (spent(guard), last(guard).flags) == (Decimal(cost), flags)


def test_an_own_unit_that_the_reply_does_not_tell_stays_as_expected(opened: Opened):
    """A usage says nothing of credits, so the amount that was reserved is booked."""
    units = {"credits": {"big": {"request": 1}}}
    guard = opened({**POLICY, "units": units, "caps": [{"id": "credits", "unit": "credits", "limit": 10}]})
    with guard.call(user="u1", amount=3, unit="credits") as call:
        call.settle(usage=Usage(input_tokens=10))
    assert spent(guard, "credits") == 3


def test_a_reply_of_an_unknown_model_is_booked(opened: Opened):
    """Unknown models are denied before a call, not after: the reply is there, and its known cost is booked."""
    guard = opened({**POLICY, "failure": {"unknown_model": "deny"}})
    with guard.call(user="u1", cost="0.5") as call:
        call.settle(usage=Usage(model="nobody-knows-it", input_tokens=10))
    assert (spent(guard), last(guard).flags) == (Decimal("0.5"), ("uncertain",))


# layers


def test_layers_charge_once(opened: Opened):
    """Three layers around one call: one reservation, settled by the innermost that knows."""
    guard = opened(POLICY)
    with guard.call(**CALL) as outer, guard.call(**CALL) as middle, guard.call(**CALL) as inner:
        assert outer.id == middle.id == inner.id
        assert current_call() is inner
        inner.settle(cost=2)
    assert (kinds(guard), spent(guard), held(guard)) == (["reserve", "settle"], 2, 0)


@pytest.mark.parametrize(
    ("name", "cost"), [("inner settles", "2"), ("outer settles too", "2"), ("inner is released, outer settles", "1")]
)
def test_who_settles_a_call_of_two_layers(opened: Opened, name: str, cost: str):
    """The inner one; but what it released, the outer one may still book."""
    guard = opened(POLICY)
    with guard.call(**CALL) as outer:
        with guard.call(**CALL) as inner:
            inner.release() if "released" in name else inner.settle(cost=2)
        if "outer" in name:
            outer.settle(cost=2 if "too" in name else 1)
    assert (spent(guard), held(guard)) == (Decimal(cost), 0)


@pytest.mark.parametrize("first", ["settle", "release"])
def test_further_inner_calls_reserve_for_themselves(opened: Opened, first: str):
    """A retry inside: the first attempt is the outer call's, the second is a call of its own."""
    guard = opened(POLICY)
    with guard.call(**CALL) as outer:
        with guard.call(**CALL) as one:
            one.release() if first == "release" else one.settle(cost=1)
        with guard.call(**CALL) as two:
            two.settle(cost=1)
    assert (one.id == outer.id, two.id == outer.id) == (True, False)
    assert spent(guard) == (1 if first == "release" else 2)


def test_an_inner_call_after_the_outer_settled_is_a_call_of_its_own(opened: Opened):
    """What is recorded is not taken over."""
    guard = opened(POLICY)
    with guard.call(**CALL) as outer:
        outer.settle(cost=1)
        with guard.call(**CALL) as inner:
            inner.settle(cost=2)
    assert (spent(guard), inner.id != outer.id) == (3, True)


def test_guards_do_not_take_over_from_each_other(opened: Opened, clock):
    """Two ledgers each count the call."""
    guard = opened(POLICY)
    with Guard("memory://", policy=POLICY, clock=clock) as other:
        with guard.call(**CALL) as outer, other.call(**CALL) as inner:
            inner.settle(cost=1)
            outer.settle(cost=2)
        assert (spent(guard), spent(other)) == (2, 1)


def test_an_inner_layer_books_at_the_rates_of_its_model(opened: Opened):
    """The outer layer did not know which model would serve."""
    guard = opened(POLICY)
    with guard.call(**CALL) as outer, guard.call(**{**CALL, "model": "small"}) as inner:
        assert (outer.model, inner.model, inner.params["model"]) == ("big", "small", "small")
        inner.settle(usage=Usage(input_tokens=1000))
    assert spent(guard) == Decimal("0.001")


def test_an_inner_layer_that_is_refused_leaves_the_outer_call_whole(opened: Opened):
    """The inner model is denied: the outer call was not taken over, and is booked as ever."""
    guard = opened({**POLICY, "failure": {"unknown_model": "deny"}})
    with guard.call(**CALL) as outer:
        with pytest.raises(UnknownModel), guard.call(**{**CALL, "model": "nobody-knows-it"}):
            raise AssertionError("the block was entered")
        outer.settle(cost=1)
    assert (kinds(guard), spent(guard), held(guard)) == (["reserve", "settle"], 1, 0)
    with guard.call(**CALL), pytest.raises(UnknownModel), guard.call(**{**CALL, "model": "nobody-knows-it"}):
        raise AssertionError("the block was entered")
    assert last(guard).flags == ("uncertain",)


async def test_parallel_inner_calls(opened: Opened):
    """One of them is the outer call, the others are calls of their own."""
    guard = opened(POLICY)

    async def ask() -> str:
        async with guard.call(**CALL) as call:
            await asyncio.sleep(0)
            call.settle(cost=1)
            return call.id

    async with guard.call(**CALL) as outer:
        ids = await asyncio.gather(*(ask() for _ in range(3)))
    assert (len(set(ids)), outer.id in ids, spent(guard)) == (3, True, 3)


def test_inner_calls_in_threads(opened: Opened):
    """`carry` takes the open call along; however many threads race for it, one takes it over."""
    guard = opened({**POLICY, "caps": [{"id": "monthly", "limit": 500}]})
    ids: list[str] = []

    def ask(start: threading.Barrier) -> None:
        start.wait()
        with guard.call(**CALL) as call:
            call.settle(cost=1)
        ids.append(call.id)

    for _ in range(10):
        with guard.call(**CALL):
            start = threading.Barrier(4)
            threads = [threading.Thread(target=carry(ask), args=(start,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert (len(set(ids)), spent(guard)) == (40, 40)


def test_two_layers_at_the_same_instant(opened: Opened, monkeypatch: pytest.MonkeyPatch):
    """Both found the outer call open; one of them gets it."""
    guard = opened(POLICY)
    both, taken_over = threading.Barrier(2), guard.taken_over

    def at_once(*args: Any) -> Any:
        both.wait()
        return taken_over(*args)

    monkeypatch.setattr(guard, "taken_over", at_once)

    def ask() -> None:
        with guard.call(**CALL) as call:
            call.settle(cost=1)

    with guard.call(**CALL):
        threads = [threading.Thread(target=carry(ask)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (spent(guard), kinds(guard).count("reserve")) == (2, 2)


async def test_a_task_that_outlives_the_outer_call(opened: Opened):
    """What begins after the outer call is over is a call of its own."""
    guard = opened(POLICY)
    begin = asyncio.Event()

    async def later() -> str:
        await begin.wait()
        async with guard.call(**CALL) as call:
            call.settle(cost=1)
            return call.id

    async with guard.call(**CALL) as outer:
        task = asyncio.create_task(later())
        await asyncio.sleep(0)
        outer.settle(cost=1)
    begin.set()
    assert await task != outer.id
    assert spent(guard) == 2


def test_a_refusal_inside_a_call(opened: Opened, clock):
    """Another ledger refuses before anything is sent: the outer call is released, its provider was not called."""
    guard = opened(POLICY)
    with (
        Guard("memory://", policy={"caps": [{"id": "none", "limit": 0}]}, clock=clock) as other,
        pytest.raises(CapExceeded),
        guard.call(**CALL),
        other.call(**CALL),
    ):
        raise AssertionError("the block was entered")
    assert (kinds(guard), held(guard)) == (["reserve", "release"], 0)


def test_a_failed_attempt_before_a_billed_one_proves_nothing(opened: Opened):
    """A fall back that was billed, and then failed to parse, is not released for the first attempt's refusal."""
    guard = opened(POLICY)

    def ask() -> None:
        try:
            raise httpx.ConnectError("the first provider is away")
        except httpx.ConnectError:
            raise ValueError("the second provider's reply is not JSON")  # noqa: B904

    with pytest.raises(ValueError, match="not JSON"), guard.call(**CALL):
        ask()
    assert last(guard).flags == ("uncertain",)


@asynccontextmanager
async def _fixture(guard: Guard) -> AsyncIterator[Any]:
    async with guard.call(**CALL) as call:
        yield call


async def test_a_call_in_a_context_manager_of_ones_own(opened: Opened):
    """The exception reaches the call through the generator."""
    guard = opened(POLICY)
    with pytest.raises(ConnectionRefusedError):
        async with _fixture(guard):
            raise ConnectionRefusedError
    assert kinds(guard) == ["reserve", "release"]


def test_a_guard_needs_a_policy():
    """No policy is not the same as no caps."""
    with pytest.raises(PolicyError, match="no caps"):
        Guard("memory://")


def test_ask_is_priced(opened: Opened):
    """The tables above rest on these: the bound is above the expectation, and both above nothing."""
    reservation = opened(POLICY).reserve(user="u1", model="big", **ASK)
    assert reservation.held >= reservation.expected > Decimal("0.002")
