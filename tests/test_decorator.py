"""`@capped`: every kind of function keeps its kind, is reserved before it runs, and booked by what it gives."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from capguard import CapExceeded, Guard, PolicyError, capped, configure, current_call, identify
from capguard.default import default_is
from capguard.testing import guarded
from capguard.testing.provider import Served
from tests.kit import MESSAGES, POLICY, PRICES, held, kinds, last, spent

Opened = Callable[..., Guard]

REPLY = {"model": "big", "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}}
COST = Decimal("0.012")
WORDS = ["one ", "two "]
END = {**REPLY, "choices": []}
STREAM = [{"model": "big", "choices": [{"delta": {"content": word}}]} for word in WORDS] + [END]


@pytest.fixture
def guard(opened: Opened) -> Iterator[Guard]:
    """The process's Guard, on the backend under test."""
    guard = opened({**POLICY, "plans": {"free": {}}})
    with default_is(guard):
        yield guard


# every kind


@capped(user="user")
def function(user: str, model: str = "big", prompt: str = "Hello", *, max_tokens: int = 100) -> Any:
    """Its own docstring."""
    return REPLY


@capped(user="user")
async def coroutine(user: str, model: str = "big", prompt: str = "Hello", *, max_tokens: int = 100) -> Any:
    await asyncio.sleep(0)
    return REPLY


@capped(user="user")
def generator(user: str, model: str = "big", prompt: str = "Hello", *, max_tokens: int = 100) -> Iterator[Any]:
    yield from STREAM


@capped(user="user")
async def async_generator(
    user: str, model: str = "big", prompt: str = "Hello", *, max_tokens: int = 100
) -> AsyncIterator[Any]:
    for each in STREAM:
        await asyncio.sleep(0)
        yield each


async def _later() -> Any:
    return REPLY


@capped(user="user")
def awaitable(user: str, model: str = "big", prompt: str = "Hello") -> Awaitable[Any]:
    return _later()


@capped(user="user")
def future(user: str, model: str = "big", prompt: str = "Hello") -> Awaitable[Any]:
    return asyncio.ensure_future(_later())


@capped(user="user")
def iterator(user: str, model: str = "big", prompt: str = "Hello") -> Iterator[Any]:
    return iter(STREAM)


class Bot:
    """Every kind of method, capped above and below the other decorator."""

    @capped(user="user")
    def method(self, user: str, model: str = "big", prompt: str = "Hello") -> Any:
        assert isinstance(self, Bot)
        return REPLY

    @capped(user="user")
    async def async_method(self, user: str, model: str = "big", prompt: str = "Hello") -> Any:
        return REPLY

    @capped(user="user")
    def generator_method(self, user: str, model: str = "big", prompt: str = "Hello") -> Any:
        yield from STREAM

    @capped(user="user")
    @classmethod
    def above_class(cls, user: str, model: str = "big", prompt: str = "Hello") -> Any:
        assert cls is Bot
        return REPLY

    @classmethod
    @capped(user="user")
    def below_class(cls, user: str, model: str = "big", prompt: str = "Hello") -> Any:
        assert cls is Bot
        return REPLY

    @capped(user="user")
    @staticmethod
    def above_static(user: str, model: str = "big", prompt: str = "Hello") -> Any:
        return REPLY

    @staticmethod
    @capped(user="user")
    async def below_static(user: str, model: str = "big", prompt: str = "Hello") -> Any:
        return REPLY


class Callables:
    """Objects that are called, one per kind."""

    class Plain:
        def __call__(self, user: str, model: str = "big", prompt: str = "Hello") -> Any:
            return REPLY

    class Coroutine:
        async def __call__(self, user: str, model: str = "big", prompt: str = "Hello") -> Any:
            return REPLY

    class Generator:
        def __call__(self, user: str, model: str = "big", prompt: str = "Hello") -> Any:
            yield STREAM[0]
            assert current_call().model == "big"
            yield from STREAM[1:]

    class AsyncGenerator:
        async def __call__(self, user: str, model: str = "big", prompt: str = "Hello") -> Any:
            for each in STREAM:
                yield each


def _partly(first: int, user: str, model: str = "small", prompt: str = "Hello") -> Any:
    return REPLY


async def _apartly(first: int, user: str, model: str = "small", prompt: str = "Hello") -> Any:
    return REPLY


def _gpartly(first: int, user: str, model: str = "small", prompt: str = "Hello") -> Any:
    yield from STREAM


KINDS: dict[str, Any] = {
    "function": function,
    "coroutine": coroutine,
    "generator": generator,
    "async generator": async_generator,
    "returns an awaitable": awaitable,
    "returns a future": future,
    "returns an iterator": iterator,
    "method": Bot().method,
    "async method": Bot().async_method,
    "generator method": Bot().generator_method,
    "class method, capped above": Bot.above_class,
    "class method, capped below": Bot().below_class,
    "static method, capped above": Bot.above_static,
    "static method, capped below": Bot().below_static,
    "callable": capped(user="user")(Callables.Plain()),
    "async callable": capped(user="user")(Callables.Coroutine()),
    "generator callable": capped(user="user")(Callables.Generator()),
    "async generator callable": capped(user="user")(Callables.AsyncGenerator()),
    "partial": capped(user="user")(functools.partial(_partly, 1, model="big")),
    "async partial": capped(user="user")(functools.partial(_apartly, 1, model="big")),
    "generator partial": capped(user="user")(functools.partial(_gpartly, 1, model="big")),
    "lambda": capped(user="user")(lambda user, model="big", prompt="Hello": REPLY),
}


async def gathered(result: Any) -> Any:
    """Whatever a capped function gives, awaited and read to its end."""
    if inspect.isawaitable(result):
        result = await result
    if hasattr(result, "__anext__"):
        return [each async for each in result]
    return list(result) if hasattr(result, "__next__") else result


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_is_booked_by_what_it_gives(guard: Guard, kind: str):
    """Returned, awaited or yielded: the usage in it is booked, once."""
    given = await gathered(KINDS[kind]("u1"))
    assert given in (REPLY, STREAM)
    assert (kinds(guard), spent(guard), last(guard).flags) == (["reserve", "settle"], COST, ())


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_is_refused_before_it_runs(opened: Opened, kind: str):
    """A spent cap: the function is never entered."""
    with default_is(opened({**POLICY, "caps": [{"id": "none", "limit": 0}]})), pytest.raises(CapExceeded):
        await gathered(KINDS[kind]("u1"))


ASKERS = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction, callable)


@pytest.mark.parametrize("plain", [function, coroutine, generator, async_generator, awaitable, Bot.method])
def test_signature_and_kind_survive(plain: Any):
    """Frameworks look at both, at the name, the docstring and the module."""
    original = plain.__wrapped__
    assert inspect.signature(plain) == inspect.signature(original)
    assert [ask(plain) for ask in ASKERS] == [ask(original) for ask in ASKERS]
    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        assert getattr(plain, name) == getattr(original, name)


@pytest.mark.parametrize("wrapped", ["async partial", "generator partial", "async callable", "generator callable"])
def test_the_kind_of_partials_and_callables(wrapped: str):
    """They have no name; the kind is that of what they call."""
    plain = KINDS[wrapped]
    assert inspect.iscoroutinefunction(plain) == wrapped.startswith("async")
    assert inspect.isgeneratorfunction(plain) == wrapped.startswith("generator")


@pytest.mark.parametrize("bare", [True, False])
def test_capped_without_arguments(guard: Guard, bare: bool):
    """`@capped` and `@capped()`: the identity comes from the context, model and prompt by their names."""

    def ask(model: str, prompt: str) -> Any:
        return REPLY

    ask = capped(ask) if bare else capped()(ask)
    with identify(user="u1"):
        ask("big", "Hello")
    assert spent(guard) == COST


def test_a_guard_of_ones_own(opened: Opened):
    """The first argument is the Guard; the process's is not asked."""
    guard = opened(POLICY)
    capped(guard, user="user")(lambda user, model="big", prompt="": REPLY)("u1")
    assert spent(guard) == COST


def test_without_any_guard():
    """Neither `configure` nor the environment names one: the call says so, decorating does not."""
    with default_is(None), pytest.raises(PolicyError, match="CAPGUARD_POLICY"):
        function("u1")


def test_configure_sets_the_guard_of_the_process(url: str):
    """A Guard, or what makes one."""
    with default_is(None):
        with configure(url, policy=POLICY) as made:
            function("u1")
            assert spent(made) == COST
        with Guard("memory://", policy=POLICY) as other:
            assert configure(other) is other
            function("u1")
            assert spent(other) == COST
        for wrong in (None, 5, POLICY):
            with pytest.raises(TypeError, match="a Guard, or the URL"):
                configure(wrong)  # type: ignore[arg-type,call-overload]


# arguments


SAID: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "named": ({"user": "who", "model": "which", "prompt": "text", "max_tokens": "most"}, {}),
    "a callable": ({"user": lambda given: given["who"].lower(), "model": lambda given: given["which"]}, {}),
    "literals": ({"user": "who", "model": "big", "feature": "chat"}, {"feature": "chat"}),
    "of the function": ({"user": "who", "model": "which", "feature": "mode"}, {"feature": "fast"}),
    "a plan": ({"user": "who", "model": "which", "plan": lambda _: "free"}, {"plan": "free"}),
}


@pytest.mark.parametrize("case", SAID)
@pytest.mark.parametrize("positional", [True, False])
def test_values_name_arguments(guard: Guard, case: str, positional: bool):
    """Given by position, by name or by default, they are the same."""
    values, identity = SAID[case]

    @capped(**values)
    def ask(who: str, which: str = "big", text: str = "Hello", most: int = 100, mode: str = "fast") -> Any:
        held_for = guard.status(user="u1").caps["monthly"].held
        return {**REPLY, "held": held_for}

    reply = ask("u1", "big") if positional else ask(which="big", who="u1")
    entry = next(iter(guard.entries()))
    assert (entry.user, entry.model, reply["held"] > 0) == ("u1", "big", True)
    assert {name: entry.body["identity"].get(name) for name in identity} == identity


@pytest.mark.parametrize(
    ("cost", "booked"), [("0.02", "0.02"), (Decimal("0.5"), "0.5"), (lambda given: given["price"] * 2, "2"), (1, "1")]
)
def test_a_cost_that_is_known(guard: Guard, cost: Any, booked: str):
    """Said outright or computed from the arguments; nothing else is needed."""

    @capped(user="user", cost=cost)
    def draw(user: str, price: int = 1) -> str:
        return "a picture"

    assert draw("u1") == "a picture"
    assert spent(guard) == Decimal(booked)


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_the_names_of_the_output_limit(guard: Guard, limit: str):
    """Found by themselves: a small limit holds less than none."""
    ask = eval(f"lambda user, model='big', prompt='Hello', {limit}=None: current_call().reservation.held")
    capped_ask = capped(user="user")(ask)
    assert capped_ask("u1", **{limit: 1}) < capped_ask("u1", **{limit: 500}) < capped_ask("u1")


def test_a_function_that_says_nothing_counts_requests(opened: Opened):
    """No model, no prompt, no cost: one request."""
    guard = opened({"caps": [{"id": "requests", "unit": "requests", "limit": 2}]})

    @capped(guard, user="user")
    def ask(user: str, model: str | None = None) -> str:
        return "hello"

    assert [ask("u1"), ask("u1")] == ["hello", "hello"]
    with pytest.raises(CapExceeded):
        ask("u1")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"user": "whom"}, "no argument 'whom'"),
        ({"plan": "pro"}, "no argument 'pro'"),
        ({"messages": "history"}, "no argument 'history'"),
        ({"max_tokens": "limit"}, "no argument 'limit'"),
        ({"usr": "user"}, "unknown usr"),
        ({"guard": "sqlite:///capguard.db"}, "allowed: a Guard"),
    ],
)
def test_wrong_names_are_refused_at_decoration(values: dict[str, Any], said: str):
    """Not at three in the morning: what was wrong, and what is allowed."""
    with pytest.raises(TypeError, match=said) as caught:
        capped(**values)(lambda user, model: None)
    assert "allowed" in str(caught.value)


def test_arguments_that_do_not_bind(guard: Guard):
    """The function's own TypeError, and nothing is held."""
    with pytest.raises(TypeError, match="user"):
        function()
    assert kinds(guard) == []


# downgrade


STEERED = {
    "prices": PRICES,
    "caps": [{"id": "cheaper", "limit": 0, "action": "downgrade", "to": "small"}, {"id": "monthly", "limit": 5}],
}


def model_of(*, limit: str = "max_tokens") -> dict[str, Callable[..., Any]]:
    @capped(user="user")
    def by_name(user: str, model: str, prompt: str = "", max_tokens: int = 10) -> Any:
        return model, max_tokens

    @capped(user="user", model="llm", max_tokens="most")
    def by_other_names(user: str, llm: str = "big", most: int = 10) -> Any:
        return llm, most

    @capped(user="user")
    async def awaited(user: str, /, model: str, *, max_tokens: int = 10) -> Any:
        return model, max_tokens

    @capped(user="user")
    def yielded(user: str, model: str = "big", max_tokens: int = 10) -> Any:
        yield model
        yield max_tokens

    @capped(user="user")
    async def ayielded(user: str, model: str = "big", max_tokens: int = 10) -> Any:
        yield model
        yield max_tokens

    @capped(user="user", model=lambda given: given["options"]["model"])
    def hidden(user: str, **options: Any) -> Any:
        return options["model"], 10

    @capped(user="user", model="big")
    def outright(user: str) -> Any:
        return "big", 10

    return {
        "by position": lambda: by_name("u1", "big"),
        "by keyword": lambda: by_name(model="big", user="u1"),
        "by other names": lambda: by_other_names("u1"),
        "a coroutine": lambda: awaited("u1", "big"),
        "a generator": lambda: yielded("u1"),
        "an async generator": lambda: ayielded("u1", model="big"),
        "not rewritable: a callable": lambda: hidden("u1", model="big"),
        "not rewritable: a literal": lambda: outright("u1"),
    }


@pytest.mark.parametrize("case", model_of())
async def test_a_downgrade_rewrites_the_model_argument(opened: Opened, case: str):
    """However it is passed; where the function has none, the cap lets the call pass, flagged."""
    guard = opened(STEERED)
    with default_is(guard):
        found = tuple(await gathered(model_of()[case]()))
    rewritten = "not rewritable" not in case
    entry = next(iter(guard.entries()))
    assert (found, entry.model) == (("small", 10), "small") if rewritten else (("big", 10), "big")
    assert "downgrade:cheaper" in entry.flags


def test_a_downgrade_that_cannot_be_made_may_block(opened: Opened):
    """`otherwise = "block"`: where the model cannot be rewritten, the call is refused."""
    caps = [{"id": "cheaper", "limit": 0, "action": "downgrade", "to": "small", "otherwise": "block"}]
    guard = opened({**STEERED, "caps": caps})
    with default_is(guard), pytest.raises(CapExceeded):
        model_of()["not rewritable: a literal"]()


# inside


def test_current_call_inside(guard: Guard):
    """It settles, and tells the model; outside there is none."""

    @capped(user="user")
    def ask(user: str, model: str = "big", prompt: str = "") -> str:
        current_call().settle(cost="0.3")
        return current_call().model or ""

    assert ask("u1") == "big"
    assert spent(guard) == Decimal("0.3")
    with pytest.raises(LookupError, match="no capped call"):
        current_call()


async def test_current_call_inside_every_step(guard: Guard):
    """A generator has it in all its steps, its consumer between them does not."""

    @capped(user="user")
    def words(user: str, model: str = "big", prompt: str = "") -> Iterator[str]:
        for word in WORDS:
            assert current_call().model == "big"
            yield word
        current_call().settle(cost="0.3")

    @capped(user="user")
    async def awords(user: str, model: str = "big", prompt: str = "") -> AsyncIterator[str]:
        for word in words.__wrapped__("u1"):
            await asyncio.sleep(0)
            yield word

    for _ in words("u1"):
        with pytest.raises(LookupError):
            current_call()
    async for _ in awords("u1"):
        with pytest.raises(LookupError):
            current_call()
    assert [entry.flags for entry in guard.entries() if entry.kind == "settle"] == [("given",)] * 2


@pytest.mark.parametrize("kind", ["function", "coroutine", "generator", "async generator", "awaitable"])
@pytest.mark.parametrize(
    ("error", "end"), [(ConnectionRefusedError(), "release"), (ValueError("odd"), "settle"), (CapExceeded, "release")]
)
async def test_an_exception_inside(guard: Guard, kind: str, error: Any, end: str):
    """It goes on; known to be unbilled, the hold is dropped, else the expected cost or what was seen is booked."""

    def fail() -> Any:
        if error is CapExceeded:
            with guarded({"caps": [{"id": "none", "limit": 0}]}) as other:
                other.reserve(user="u1", cost=1)
        raise error

    async def afail() -> Any:
        fail()

    async def agen(user: str, model: str = "big", prompt: str = "") -> Any:
        fail()
        yield

    def gen(user: str, model: str = "big", prompt: str = "") -> Any:
        fail()
        yield

    def plain(user: str, model: str = "big", prompt: str = "") -> Any:
        return afail() if kind == "awaitable" else fail()

    async def coro(user: str, model: str = "big", prompt: str = "") -> Any:
        fail()

    bodies = {"generator": gen, "async generator": agen, "coroutine": coro}
    asked = capped(user="user")(bodies.get(kind, plain))
    with pytest.raises(error if isinstance(error, type) else type(error)):
        await gathered(asked("u1"))
    assert (kinds(guard), held(guard)) == (["reserve", end], 0)


def test_send_throw_and_close_reach_the_generator(guard: Guard):
    """A capped generator is a generator: what is sent, thrown and returned passes through."""
    heard: list[Any] = []

    @capped(user="user")
    def talk(user: str, model: str = "big", prompt: str = "") -> Any:
        try:
            heard.append((yield "a"))
            try:
                yield "b"
            except ValueError as error:
                assert current_call().model == "big"
                heard.append(str(error))
                yield "caught"
            yield END
        finally:
            heard.append("closed")
        return "the end"

    talking = talk("u1")
    assert [next(talking), talking.send("sent"), talking.throw(ValueError("thrown"))] == ["a", "b", "caught"]
    assert next(talking) == END
    with pytest.raises(StopIteration) as ended:
        next(talking)
    assert (ended.value.value, heard) == ("the end", ["sent", "thrown", "closed"])
    assert (last(guard).cost, last(guard).flags) == (COST, ())
    talking = talk("u1")
    next(talking)
    talking.close()
    assert (heard[3:], last(guard).flags) == (["closed"], ("counted", "uncertain"))
    talking = talk("u1")
    next(talking)
    with pytest.raises(KeyError):
        talking.throw(KeyError("not caught"))
    assert (heard[4:], last(guard).flags, held(guard)) == (["closed"], ("counted", "uncertain"), 0)


async def test_asend_athrow_and_aclose_reach_the_generator(guard: Guard):
    """As a sync one."""
    heard: list[Any] = []

    @capped(user="user")
    async def talk(user: str, model: str = "big", prompt: str = "") -> Any:
        try:
            heard.append((yield "a"))
            try:
                yield "b"
            except ValueError as error:
                heard.append(str(error))
                yield "caught"
            yield END
        finally:
            heard.append("closed")

    talking = talk("u1")
    assert [await anext(talking), await talking.asend("sent"), await talking.athrow(ValueError("thrown"))] == [
        "a",
        "b",
        "caught",
    ]
    assert [each async for each in talking] == [END]
    assert (heard, last(guard).cost, last(guard).flags) == (["sent", "thrown", "closed"], COST, ())
    talking = talk("u1")
    await anext(talking)
    await talking.aclose()
    assert (heard[3:], last(guard).flags) == (["closed"], ("counted", "uncertain"))
    talking = talk("u1")
    await anext(talking)
    with pytest.raises(KeyError):
        await talking.athrow(KeyError("not caught"))
    assert (heard[4:], last(guard).flags, held(guard)) == (["closed"], ("counted", "uncertain"), 0)


async def test_a_generator_that_is_never_read(guard: Guard):
    """It was never entered: nothing is held."""
    generator("u1")
    async_generator("u1")
    assert kinds(guard) == []


# layers


@pytest.mark.parametrize("kind", ["function", "coroutine", "generator", "async generator"])
async def test_a_decorator_over_a_call_charges_once(guard: Guard, kind: str):
    """Each layer is capped by itself; together they are one call, with the provider's cost."""

    def inner() -> Any:
        with guard.call(user="u1", model="big", messages=MESSAGES) as call:
            call.settle(REPLY)
        return "the text"

    @capped(user="user")
    def plain(user: str, model: str = "big", prompt: str = "") -> Any:
        return inner()

    @capped(user="user")
    async def coro(user: str, model: str = "big", prompt: str = "") -> Any:
        return plain(user)

    @capped(user="user")
    def gen(user: str, model: str = "big", prompt: str = "") -> Any:
        yield inner()

    @capped(user="user")
    async def agen(user: str, model: str = "big", prompt: str = "") -> Any:
        yield inner()

    layers = {"function": plain, "coroutine": coro, "generator": gen, "async generator": agen}
    assert await gathered(layers[kind]("u1")) in ("the text", ["the text"])
    assert (kinds(guard), spent(guard), held(guard)) == (["reserve", "settle"], COST, 0)


async def test_generators_in_generators_charge_once(guard: Guard):
    """Three layers that pass the same stream on: one call, at what the innermost saw."""

    @capped(user="user")
    def middle(user: str, model: str = "big", prompt: str = "") -> Any:
        yield from generator(user)

    @capped(user="user")
    def outer(user: str, model: str = "big", prompt: str = "") -> Any:
        yield from middle(user)

    @capped(user="user")
    async def aouter(user: str, model: str = "big", prompt: str = "") -> Any:
        async for each in async_generator(user):
            yield each

    assert list(outer("u1")) == STREAM
    assert (kinds(guard), spent(guard)) == (["reserve", "settle"], COST)
    assert [each async for each in aouter("u1")] == STREAM
    assert (kinds(guard)[2:], spent(guard), held(guard)) == (["reserve", "settle"], 2 * COST, 0)


async def test_the_consumers_calls_are_not_swallowed(guard: Guard):
    """Between two chunks of a capped generator that has a call open itself, the consumer's call is its own."""

    @capped(user="user")
    def inside(user: str, model: str = "big", prompt: str = "") -> Any:
        with guard.call(user=user, model="big", prompt="") as call:
            yield "a"
            yield "b"
            call.settle(REPLY)

    @capped(user="user")
    async def ainside(user: str, model: str = "big", prompt: str = "") -> Any:
        async with guard.call(user=user, model="big", prompt="") as call:
            yield "a"
            yield "b"
            call.settle(REPLY)

    for _ in inside("u1"):
        with guard.call(user="u2", cost=1) as own:
            own.settle(cost=1)
    async for _ in ainside("u1"):
        async with guard.call(user="u2", cost=1) as own:
            own.settle(cost=1)
    assert (spent(guard), spent(guard, user="u2")) == (2 * COST, 4)
    assert held(guard) == 0


def test_a_second_call_inside_is_a_call_of_its_own(guard: Guard):
    """A retry of a billed call costs again."""

    @capped(user="user")
    def twice(user: str, model: str = "big", prompt: str = "") -> str:
        function(user)
        function(user)
        return "done"

    twice("u1")
    assert (spent(guard), kinds(guard).count("settle")) == (2 * COST, 2)


# SDKs and frameworks


def test_the_streams_of_the_sdk(guard: Guard, fake: Served, oai: openai.OpenAI):
    """A stream that is returned is metered after the function has ended, and keeps the SDK's names."""
    fake.provider.set(input_tokens=1000, output_tokens=100)

    @capped(user="user")
    def ask(user: str, messages: Any, model: str = "big", max_tokens: int = 100) -> Any:
        return oai.chat.completions.create(
            messages=messages,
            model=model,
            max_tokens=max_tokens,
            stream=True,
            stream_options={"include_usage": True},
        )

    stream = ask("u1", MESSAGES)
    assert kinds(guard) == ["reserve"]
    assert stream.response.status_code == 200
    with stream:
        assert len(list(stream)) > 5
    assert (spent(guard), last(guard).flags) == (COST, ())


def app() -> Starlette:
    who = {"user": lambda given: given["request"].headers["x-user"], "model": "big"}

    @capped(**who)
    async def streamed(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for each in STREAM:
                yield f"data: {json.dumps(each)}\n\n".encode()

        return StreamingResponse(body(), media_type="text/event-stream")

    @capped(**who)
    def threaded(request: Request) -> Response:
        return StreamingResponse((f"{word} " for word in WORDS), media_type="text/plain")

    @capped(**who)
    async def told(request: Request) -> Response:
        current_call().settle(REPLY)
        return JSONResponse({"text": "hello"})

    @capped(**who)
    async def silent(request: Request) -> Response:
        return PlainTextResponse("hello")

    routes = [Route(f"/{each.__name__}", each) for each in (streamed, threaded, told, silent)]
    return Starlette(routes=routes)


@pytest.mark.parametrize(
    ("path", "flags"), [("streamed", ()), ("threaded", ("counted",)), ("told", ()), ("silent", ("uncertain",))]
)
def test_endpoints(guard: Guard, path: str, flags: tuple[str, ...]):
    """Signature and kind survive the framework; a streamed response is metered by its body."""
    with TestClient(app()) as client:
        reply = client.get(f"/{path}", headers={"x-user": "u1"})
    assert reply.status_code == 200
    assert (kinds(guard), last(guard).flags, held(guard)) == (["reserve", "settle"], flags, 0)
    if path in ("streamed", "told"):
        assert spent(guard) == COST


def test_other_results_pass_as_they_are(guard: Guard):
    """What tells no usage is given back unchanged, and the expected cost is booked, flagged."""
    for result in (None, "text", b"bytes", 5, [1, 2], SimpleNamespace(usage=None), {"usage": "?"}):

        @capped(user="user")
        def ask(user: str, model: str = "small", result: Any = result) -> Any:
            return result

        assert ask("u1") is result
        assert last(guard).flags == ("uncertain",)
