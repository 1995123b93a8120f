"""Streams are metered as they pass, and booked once, whichever way they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from typing import Any

import anthropic
import anyio
import openai
import pytest

from capguard import Guard, Usage, current_call
from capguard.testing.provider import Served
from tests.kit import CALL, MESSAGES, POLICY, held, kinds, last, spent

Opened = Callable[..., Guard]

USAGE = {"stream_options": {"include_usage": True}}
WORDS = ["one ", "two ", "three ", "four "]


def chunk(text: str | None, usage: dict[str, int] | None = None) -> dict[str, Any]:
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return {"model": "big", "choices": choices, "usage": usage}


REPORT = chunk(None, {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100})
CHUNKS = [chunk(word) for word in WORDS]


def chat(client: Any, call: Any, **options: Any) -> Any:
    return client.chat.completions.create(messages=MESSAGES, stream=True, **call.params, **options)


async def achunks(*chunks: Any) -> AsyncIterator[Any]:
    for each in chunks:
        await asyncio.sleep(0)
        yield each


def input_only(call: Any) -> Decimal:
    """What the input alone of CALL costs."""
    return Decimal(call._booking.expected["input_tokens"]) / 100_000


# the real SDKs


def openai_chat(oai: openai.OpenAI, _: Any, call: Any) -> Any:
    return chat(oai, call, **USAGE)


def openai_responses(oai: openai.OpenAI, _: Any, call: Any) -> Any:
    return oai.responses.create(input="Say something.", stream=True, model="big", max_output_tokens=100)


def anthropic_messages(_: Any, claude: anthropic.Anthropic, call: Any) -> Any:
    return claude.messages.create(messages=MESSAGES, stream=True, **call.params)


@pytest.mark.parametrize("ask", [openai_chat, openai_responses, anthropic_messages])
def test_a_stream_that_tells_its_usage(opened: Opened, fake: Served, oai, claude, ask: Callable[..., Any]):
    """Booked by what the provider reports, when the last chunk has passed; every chunk goes on unchanged."""
    fake.provider.set(input_tokens=1000, output_tokens=100)
    guard = opened(POLICY)
    with guard.call(**CALL) as call:
        passed = list(call.stream(ask(oai, claude, call)))
        assert [kind for kind in kinds(guard) if kind != "extend"] == ["reserve", "settle"]
    assert passed == list(ask(oai, claude, call)) or len(passed) > 5
    assert (last(guard).cost, last(guard).flags, held(guard)) == (Decimal("0.012"), (), 0)


def test_a_stream_that_tells_no_usage_is_counted(opened: Opened, fake: Served, oai: openai.OpenAI):
    """Its input as estimated, its output as it passed: never nothing, and flagged."""
    fake.provider.set(output_tokens=80)
    guard = opened(POLICY)
    with guard.call(**CALL) as call:
        text = "".join(each.choices[0].delta.content or "" for each in call.stream(chat(oai, call)))
    assert len(text.split()) == 80
    assert last(guard).flags == ("counted",)
    output = last(guard).amounts["output_tokens"]
    assert 80 <= output <= 240
    assert spent(guard) == input_only(call) + output * Decimal("0.00002")


async def test_a_stream_of_the_async_sdk(opened: Opened, fake: Served, aoai: openai.AsyncOpenAI):
    """The same, without blocking the loop; the SDK's own names are still there."""
    fake.provider.set(input_tokens=1000, output_tokens=100)
    guard = opened(POLICY)
    async with guard.call(**CALL) as call:
        stream = call.stream(await chat(aoai, call, **USAGE))
        assert stream.response.status_code == 200
        async for _ in stream:
            pass
    assert (spent(guard), last(guard).flags) == (Decimal("0.012"), ())


@pytest.mark.parametrize("pieces", [0, 3])
def test_a_connection_that_drops(opened: Opened, fake: Served, oai: openai.OpenAI, pieces: int):
    """What passed before is booked, at least the input; the exception goes on."""
    fake.provider.set(output_tokens=80, disconnect_after=pieces)
    guard = opened(POLICY)
    seen = ""
    with pytest.raises(Exception, match="peer closed"), guard.call(**CALL) as call:  # noqa: PT012 - what passes is seen
        for each in call.stream(chat(oai, call)):
            seen += each.choices[0].delta.content or ""
    assert bool(seen) == bool(pieces)
    assert last(guard).flags == ("counted", "uncertain")
    assert spent(guard) >= input_only(call)
    assert (spent(guard) > input_only(call)) == bool(pieces)


def test_a_stream_that_the_provider_refuses(opened: Opened, fake: Served, oai: openai.OpenAI):
    """An error status before the first chunk: nothing was billed."""
    fake.provider.set(fail_status=429)
    guard = opened(POLICY)
    with pytest.raises(openai.RateLimitError), guard.call(**CALL) as call:
        call.stream(chat(oai, call))
    assert (kinds(guard), held(guard)) == (["reserve", "release"], 0)


# ends


def whole(stream: Any) -> None:
    list(stream)


def first(stream: Any) -> None:
    next(stream)


def closed_early(stream: Any) -> None:
    next(stream)
    stream.close()


def in_a_block(stream: Any) -> None:
    with stream as entered:
        next(entered)


def closed_twice(stream: Any) -> None:
    stream.close()
    stream.close()


def never(_: Any) -> None:
    """Drop it."""


def past_the_end(stream: Any) -> None:
    list(stream)
    with pytest.raises(StopIteration):
        next(stream)
    stream.close()


ENDS = {
    "whole": (whole, 4, ("counted",)),
    "past the end": (past_the_end, 4, ("counted",)),
    "closed early": (closed_early, 1, ("counted", "uncertain")),
    "left its own block": (in_a_block, 1, ("counted", "uncertain")),
    "closed unread": (closed_twice, 0, ("counted", "uncertain")),
    "dropped half way": (first, 1, ("counted", "uncertain")),
    "dropped unread": (never, 0, ("counted", "uncertain")),
}


@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.parametrize("source", [iter, lambda chunks: chunks, lambda chunks: (each for each in chunks)])
@pytest.mark.parametrize("end", ENDS)
def test_every_end_books_what_was_seen(opened: Opened, end: str, source: Callable[[Any], Any], where: str):
    """In the block or long after it, of an iterator, an iterable or a generator: booked once, what passed."""
    consume, words, flags = ENDS[end]
    guard = opened(POLICY)
    with guard.call(**CALL) as call:
        stream = call.stream(source(CHUNKS))
        if where == "inside":
            consume(stream)
    if where == "outside":
        assert kinds(guard) == ["reserve"]
        consume(stream)
    del stream  # the last reference
    assert (kinds(guard), last(guard).flags, held(guard)) == (["reserve", "settle"], flags, 0)
    assert last(guard).amounts["output_tokens"] >= words
    assert spent(guard) == input_only(call) + last(guard).amounts["output_tokens"] * Decimal("0.00002")
    assert (spent(guard) > input_only(call)) == bool(words)


async def awhole(stream: Any) -> None:
    async for _ in stream:
        pass


async def abroken(stream: Any) -> None:
    async for _ in stream:
        break


async def aclosed(stream: Any) -> None:
    await anext(stream)
    await stream.aclose()
    await stream.close()


async def ablock(stream: Any) -> None:
    async with stream as entered:
        await anext(entered)


async def anever(_: Any) -> None:
    """Drop it."""


AENDS = {
    "whole": (awhole, 4, ("counted",)),
    "broken off": (abroken, 1, ("counted", "uncertain")),
    "closed early": (aclosed, 1, ("counted", "uncertain")),
    "left its own block": (ablock, 1, ("counted", "uncertain")),
    "dropped unread": (anever, 0, ("counted", "uncertain")),
}


@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.parametrize("end", AENDS)
async def test_every_end_of_an_async_stream(opened: Opened, end: str, where: str):
    """As the sync ones; a stream that a `break` leaves is booked when it is dropped, without a task."""
    consume, words, flags = AENDS[end]
    guard = opened(POLICY)
    async with guard.call(**CALL) as call:
        stream = call.stream(achunks(*CHUNKS))
        if where == "inside":
            await consume(stream)
    if where == "outside":
        await consume(stream)
    del stream  # the last reference
    assert (kinds(guard), last(guard).flags, held(guard)) == (["reserve", "settle"], flags, 0)
    assert (spent(guard) > input_only(call)) == bool(words)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_cancelled_consumer(opened: Opened, times: int):
    """Cancelled between two chunks: what passed is booked before the cancellation goes on."""
    guard = opened(POLICY)
    waiting = asyncio.Event()

    async def source() -> AsyncIterator[Any]:
        yield CHUNKS[0]
        waiting.set()
        await asyncio.sleep(60)

    async def consume() -> None:
        async with guard.call(**CALL) as call:
            async for _ in call.stream(source()):
                pass

    task = asyncio.create_task(consume())
    await waiting.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    guard.close()  # waits for what runs in worker threads
    assert (kinds(guard), last(guard).flags, held(guard)) == (["reserve", "settle"], ("counted", "uncertain"), 0)


@pytest.mark.parametrize(
    ("error", "after", "ending", "flags"),
    [
        (ConnectionRefusedError(), 0, "release", ()),
        (ConnectionRefusedError(), 1, "settle", ("counted", "uncertain")),
        (TimeoutError(), 0, "settle", ("counted", "uncertain")),
        (ValueError(), 2, "settle", ("counted", "uncertain")),
    ],
)
async def test_an_error_in_the_stream(opened: Opened, error: Exception, after: int, ending: str, flags: tuple[str]):
    """Known to be unbilled only before the first chunk. The exception goes on, sync and async."""
    guard = opened(POLICY)

    def failing() -> Iterator[Any]:
        yield from CHUNKS[:after]
        raise error

    async def afailing() -> AsyncIterator[Any]:
        for each in failing():
            yield each

    with pytest.raises(type(error)), guard.call(**CALL) as call:
        list(call.stream(failing()))
    assert (last(guard).kind, last(guard).flags) == (ending, flags)
    with pytest.raises(type(error)):
        async with guard.call(**CALL) as call:
            await awhole(call.stream(afailing()))
    assert (last(guard).kind, last(guard).flags, held(guard)) == (ending, flags, 0)


def test_an_error_of_the_consumer(opened: Opened):
    """The block fails while the stream is open: what passed is booked as it is left."""
    guard = opened(POLICY)
    stream = None
    with pytest.raises(ValueError, match="the consumer"), guard.call(**CALL) as call:  # noqa: PT012 - half a stream
        stream = call.stream(iter(CHUNKS))
        next(stream)
        raise ValueError("the consumer")
    assert last(guard).flags == ("counted", "uncertain")
    assert spent(guard) > input_only(call)
    assert len(list(stream)) == 3
    assert kinds(guard) == ["reserve", "settle"]


# bodies and words


def sse(*events: str) -> bytes:
    return "".join(f"data: {event}\n\n" for event in events).encode()


def test_an_sse_body_in_any_pieces(opened: Opened):
    """A proxy passes bytes, cut anywhere: the usage in them is found, and the bytes go on as they are."""
    body = sse(*(json.dumps(each) for each in [*CHUNKS, REPORT]), "[DONE]")
    guard = opened({**POLICY, "caps": [{"id": "monthly", "limit": 500}]})
    for size in (1, 7, 64, len(body)):
        with guard.call(**CALL) as call:
            pieces = call.stream(body[i : i + size] for i in range(0, len(body), size))
            assert b"".join(pieces) == body
        assert (last(guard).cost, last(guard).flags) == (Decimal("0.012"), ()), size


def test_an_sse_body_without_usage(opened: Opened):
    """Its text is counted, not its framing."""
    guard = opened(POLICY)
    with guard.call(**CALL) as call:
        list(call.stream(iter([sse(*(json.dumps(each) for each in CHUNKS), "[DONE]")])))
    assert last(guard).flags == ("counted",)
    assert 4 <= last(guard).amounts["output_tokens"] <= 8


@pytest.mark.parametrize("said", [{"usage": Usage(input_tokens=1000)}, {"cost": "0.01"}])
def test_what_is_said_beside_a_stream_counts(opened: Opened, said: dict[str, Any]):
    """The caller knows better than the stream, inside the block or while it passes."""
    guard = opened(POLICY)
    with guard.call(**CALL) as call:
        for number, _ in enumerate(call.stream(iter(CHUNKS))):
            if number == 1:
                call.settle(**said)
    assert spent(guard) == Decimal("0.01")
    with guard.call(**CALL) as call:
        stream = call.stream(iter(CHUNKS))
        call.settle(**said)
    list(stream)
    assert (spent(guard), kinds(guard)[2:]) == (Decimal("0.02"), ["reserve", "settle"])


def test_odd_chunks_pass(opened: Opened):
    """Whatever a stream carries goes on, and the call is booked."""
    odd = [None, 5, object(), {"choices": 7}, {"usage": "?"}, b"\xff\xfe", "text", ["x"]]
    guard = opened(POLICY)
    with guard.call(**CALL) as call:
        assert list(call.stream(iter(odd))) == odd
    assert last(guard).flags == ("counted",)


def test_a_stream_of_a_call_whose_cost_was_known(opened: Opened):
    """No price and no usage: the cost that was reserved is booked, not nothing."""
    guard = opened(POLICY)
    with guard.call(user="u1", cost="0.5") as call:
        list(call.stream(iter(["some", "text"])))
    assert (spent(guard), last(guard).flags) == (Decimal("0.5"), ("counted", "uncertain"))
    with guard.call(user="u1", cost="0.5") as call:
        list(call.stream(iter([*CHUNKS, REPORT])))
    assert (last(guard).cost, last(guard).flags) == (Decimal("0.012"), ())


async def test_a_source_that_closes_without_a_coroutine(opened: Opened):
    """An async iterator may have a plain `close`."""

    class Source:
        closed = False

        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> Any:
            return CHUNKS[0]

        def close(self) -> None:
            self.closed = True

    guard, source = opened(POLICY), Source()
    async with guard.call(**CALL) as call, call.stream(source) as stream:
        await anext(stream)
    assert (source.closed, last(guard).flags) == (True, ("counted", "uncertain"))


async def test_closing_closes_the_source(opened: Opened):
    """The provider's connection goes back at once."""
    ended = []

    def source() -> Iterator[Any]:
        try:
            yield from CHUNKS
        finally:
            ended.append("sync")

    async def asource() -> AsyncIterator[Any]:
        try:
            yield CHUNKS[0]
        finally:
            ended.append("async")

    guard = opened(POLICY)
    with guard.call(**CALL) as call, call.stream(source()) as stream:
        next(stream)
    async with guard.call(**CALL) as call, call.stream(asource()) as stream:
        await anext(stream)
    assert ended == ["sync", "async"]


# the consumer's own calls


def test_calls_of_the_consumer_between_chunks(opened: Opened):
    """They are calls of their own: an open stream is not taken over."""
    guard = opened(POLICY)
    with guard.call(**CALL) as streaming:
        for _ in call_and_pass(guard, streaming.stream(iter([*CHUNKS, REPORT]))):
            pass
    costs = sorted(entry.cost for entry in guard.entries() if entry.kind == "settle")
    assert costs == [Decimal("0.012")] + [Decimal(1)] * 3


def call_and_pass(guard: Guard, stream: Any) -> Iterator[Any]:
    for number, each in enumerate(stream):
        if number < 3:
            with guard.call(**CALL) as own:
                own.settle(cost=1)
        yield each


def test_a_block_that_is_left_with_its_stream_open(opened: Opened):
    """The call goes on, but it is not the current one any more."""
    with opened(POLICY).call(**CALL) as call:
        stream = call.stream(iter(CHUNKS))
        assert current_call() is call
    with pytest.raises(LookupError):
        current_call()
    stream.close()


async def test_a_stream_that_is_returned_out_of_its_block(opened: Opened):
    """An endpoint returns it: calls made meanwhile and afterwards are calls of their own."""
    guard = opened(POLICY)

    async def endpoint() -> Any:
        async with guard.call(**CALL) as call:
            return call.stream(achunks(*CHUNKS, REPORT))

    stream = await endpoint()
    with pytest.raises(LookupError):
        current_call()
    async with guard.call(**CALL) as own:
        own.settle(cost=1)
    async for _ in stream:
        async with guard.call(user="u2", model="small", messages=MESSAGES) as own:
            own.settle(cost="0.1")
    assert spent(guard) == Decimal("1.012")
    assert spent(guard, user="u2") == Decimal("0.5")


def test_two_streams_at_once(opened: Opened):
    """Each is metered for its own call."""
    guard = opened(POLICY)
    with guard.call(**CALL) as one:
        left = one.stream(iter([*CHUNKS, REPORT]))
    with guard.call(**CALL) as two:
        right = two.stream(iter([chunk(None, {"prompt_tokens": 2000, "completion_tokens": 0})]))
    assert [len(list(zip(left, right, strict=False))), len(list(left))] == [1, 3]
    list(right)
    costs = {entry.id: entry.cost for entry in guard.entries() if entry.kind == "settle"}
    assert costs == {one.id: Decimal("0.012"), two.id: Decimal("0.02")}


def test_a_stream_outlives_its_guard(opened: Opened, caplog: pytest.LogCaptureFixture):
    """The Guard is closed while a stream is open: the chunks go on, and nothing is raised."""
    guard = opened(POLICY)
    with guard.call(**CALL) as call:
        stream = call.stream(iter([*CHUNKS, REPORT]))
    guard.close()
    assert len(list(stream)) == 5


def test_a_second_stream_of_one_call_is_told(opened: Opened, caplog: pytest.LogCaptureFixture):
    """One call is one stream: another one passes, unmetered, and the log says so."""
    guard = opened(POLICY)
    with guard.call(**CALL) as call:
        list(call.stream(iter([*CHUNKS, REPORT])))
        assert list(call.stream(iter(CHUNKS))) == CHUNKS
    assert (spent(guard), kinds(guard)) == (Decimal("0.012"), ["reserve", "settle"])
    assert "second stream" in caplog.text


async def test_a_booking_outlives_the_task_that_waits_for_it(opened: Opened, monkeypatch: pytest.MonkeyPatch):
    """A host that cancels, as Starlette does when a reader goes away, cancels again at every await of the clean-up."""
    guard = opened(POLICY)
    execute = guard._backend.aexecute

    async def slowly(command: Any) -> Any:
        await asyncio.sleep(0.01)
        return await execute(command)

    async def endless() -> AsyncIterator[Any]:
        while True:
            yield CHUNKS[0]
            await asyncio.sleep(0)

    async with guard.call(**CALL) as call:
        stream = call.stream(endless())
        await anext(stream)
    monkeypatch.setattr(guard._backend, "aexecute", slowly)
    with anyio.CancelScope() as scope:
        scope.cancel()
        async for _ in stream:
            pass
    for _ in range(200):
        await asyncio.sleep(0.01)
        if kinds(guard)[-1] == "settle":
            break
    assert (kinds(guard), last(guard).flags, held(guard)) == (["reserve", "settle"], ("counted", "uncertain"), 0)
