"""The fake provider answers the official clients of OpenAI and Anthropic as the real ones would."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from capguard.testing.provider import Served

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 400}]}
ASK: dict[str, Any] = {"model": "claude-sonnet-4", "messages": [{"role": "user", "content": "x" * 400}]}
COUNTS = {"input_tokens": 1000, "output_tokens": 35, "cached_tokens": 600, "reasoning_tokens": 5}


def words(text: str | None) -> int:
    return len((text or "").split())


@pytest.mark.parametrize(
    ("settings", "asked", "usage", "finish"),
    [
        ({}, {}, (100, 50), "stop"),
        ({}, {"max_tokens": 20}, (100, 20), "length"),
        ({}, {"max_completion_tokens": 20}, (100, 20), "length"),
        ({}, {"max_tokens": 51}, (100, 50), "stop"),
        ({"input_tokens": 7, "output_tokens": 3}, {"max_tokens": 20}, (7, 3), "stop"),
        ({"output_tokens": 30}, {"max_tokens": 20}, (100, 30), "length"),
        ({"output_tokens": 0}, {}, (100, 0), "stop"),
        ({"output_tokens": 12}, {"n": 3}, (100, 36), "stop"),
    ],
)
def test_chat_tells_its_tokens(fake: Served, oai: openai.OpenAI, settings, asked, usage, finish):
    """A settable count is billed as it stands, any other follows from the call; n choices cost n times."""
    fake.provider.set(**settings)
    reply = oai.chat.completions.create(**CHAT, **asked)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == usage
    assert reply.usage.total_tokens == sum(usage)
    assert {choice.finish_reason for choice in reply.choices} == {finish}
    assert [choice.index for choice in reply.choices] == list(range(asked.get("n", 1)))
    assert sum(words(choice.message.content) for choice in reply.choices) == usage[1]


def test_chat_tells_cached_and_reasoning_tokens_within_the_totals(fake: Served, oai: openai.OpenAI):
    """OpenAI counts cached tokens in the input and reasoning in the output; reasoning is not shown."""
    fake.provider.set(**COUNTS, model_suffix="-2024-08-06")
    reply = oai.chat.completions.create(**CHAT)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (1000, 35)
    assert reply.usage.prompt_tokens_details.cached_tokens == 600
    assert reply.usage.completion_tokens_details.reasoning_tokens == 5
    assert words(reply.choices[0].message.content) == 30
    assert reply.model == "gpt-4o-2024-08-06"


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("include_usage", [True, False])
def test_chat_stream(fake: Served, oai: openai.OpenAI, include_usage: bool, n: int):
    """A stream has the text of the plain reply in pieces, and tells usage only where it was asked to."""
    fake.provider.set(output_tokens=25, chunk_tokens=10)
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    chunks = list(oai.chat.completions.create(**CHAT, stream=True, n=n, **options))
    deltas = [chunk.choices[0] for chunk in chunks if chunk.choices]
    plain = oai.chat.completions.create(**CHAT).choices[0].message.content
    for index in range(n):
        mine = [choice for choice in deltas if choice.index == index]
        pieces = [choice.delta.content for choice in mine if choice.delta.content]
        assert [words(piece) for piece in pieces] == [10, 10, 5]
        assert "".join(pieces) == plain
        assert [choice.finish_reason for choice in mine][-1] == "stop"
    told = [(c.usage.prompt_tokens, c.usage.completion_tokens, c.choices) for c in chunks if c.usage]
    assert told == ([(100, 25 * n, [])] if include_usage else [])


@pytest.mark.parametrize(
    ("given", "rows", "tokens"),
    [("x" * 40, 1, 10), (["x" * 40, "y" * 4], 2, 11), ([5, 6, 7], 1, 3), ([[5, 6], [7]], 2, 3)],
)
@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}, {"dimensions": 5}])
def test_embeddings(oai: openai.OpenAI, given, rows, tokens, form):
    """Texts and token lists, one or many, give as many vectors and no output tokens."""
    reply = oai.embeddings.create(model="text-embedding-3-small", input=given, **form)
    assert [len(row.embedding) for row in reply.data] == [form.get("dimensions", 8)] * rows
    assert reply.data[0].embedding[:2] == [1.0, 0.0]
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (tokens, tokens)


@pytest.mark.parametrize(
    ("asked", "status", "output"), [({}, "completed", 35), ({"max_output_tokens": 35}, "incomplete", 35)]
)
def test_responses(fake: Served, oai: openai.OpenAI, asked, status, output):
    """A response is incomplete where the output limit cut it; the usage is there either way."""
    fake.provider.set(**COUNTS)
    reply = oai.responses.create(model="gpt-4o", input="hi", **asked)
    assert (reply.status, words(reply.output_text)) == (status, 30)
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.total_tokens) == (
        1000,
        output,
        1000 + output,
    )
    assert reply.usage.input_tokens_details.cached_tokens == 600
    assert reply.usage.output_tokens_details.reasoning_tokens == 5


@pytest.mark.parametrize(
    ("asked", "last"), [({}, "response.completed"), ({"max_output_tokens": 25}, "response.incomplete")]
)
def test_responses_stream(fake: Served, oai: openai.OpenAI, asked, last):
    """The events come in the real order and the last one carries the usage."""
    fake.provider.set(input_tokens=9, output_tokens=25)
    events = list(oai.responses.create(model="gpt-4o", input="hi", stream=True, **asked))
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 3,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        last,
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text
    assert (events[-1].response.usage.input_tokens, events[-1].response.usage.output_tokens) == (9, 25)


def test_responses_stream_helper_of_the_client(fake: Served, oai: openai.OpenAI):
    """The client's own accumulator, which needs every item and part event, ends with the whole text."""
    fake.provider.set(output_tokens=25)
    with oai.responses.stream(model="gpt-4o", input="hi") as stream:
        final = stream.get_final_response()
    assert (words(final.output_text), final.usage.output_tokens) == (25, 25)


@pytest.mark.parametrize(("limit", "stop"), [(35, "max_tokens"), (500, "end_turn")])
def test_messages(fake: Served, claude: anthropic.Anthropic, limit: int, stop: str):
    """Anthropic leaves cached and cache-written tokens out of input_tokens; the three add up to the prompt."""
    fake.provider.set(**COUNTS, cache_write_tokens=300)
    reply = claude.messages.create(**ASK, max_tokens=limit)
    usage = reply.usage
    parts = (usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens)
    assert (parts, usage.output_tokens) == ((100, 300, 600), 35)
    assert usage.cache_creation.ephemeral_5m_input_tokens == 300
    assert (reply.stop_reason, words(reply.content[0].text)) == (stop, 30)


def test_messages_stream(fake: Served, claude: anthropic.Anthropic):
    """The first event tells the input, the last usage the totals of both, which replace it and are not added."""
    fake.provider.set(input_tokens=1000, output_tokens=25, cached_tokens=600)
    events = list(claude.messages.create(**ASK, max_tokens=500, stream=True))
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start, end = events[0].message.usage, events[-2].usage
    assert (start.input_tokens, start.cache_read_input_tokens, start.output_tokens) == (400, 600, 1)
    assert (end.input_tokens, end.cache_read_input_tokens, end.output_tokens) == (400, 600, 25)
    text = "".join(event.delta.text for event in events if event.type == "content_block_delta")
    assert words(text) == 25


def test_messages_stream_helper_of_the_client(fake: Served, claude: anthropic.Anthropic):
    """The client's own accumulator ends with the whole message."""
    fake.provider.set(input_tokens=1000, output_tokens=25)
    with claude.messages.stream(**ASK, max_tokens=500) as stream:
        final = stream.get_final_message()
    assert (words(final.content[0].text), final.usage.input_tokens, final.usage.output_tokens) == (25, 1000, 25)


async def test_async_clients(fake: Served):
    """The asynchronous clients get the same, plain and streamed."""
    fake.provider.set(output_tokens=25)
    async with openai.AsyncOpenAI(base_url=fake.url, api_key="any") as oai:
        plain = await oai.chat.completions.create(**CHAT)
        chunks = [chunk async for chunk in await oai.chat.completions.create(**CHAT, stream=True)]
    async with anthropic.AsyncAnthropic(base_url=fake.anthropic_url, api_key="any") as claude:
        message = await claude.messages.create(**ASK, max_tokens=500)
        events = [event async for event in await claude.messages.create(**ASK, max_tokens=500, stream=True)]
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert (plain.choices[0].message.content, message.content[0].text) == (streamed, streamed)
    assert events[-1].type == "message_stop"
    assert fake.provider.calls == 4


def test_system_and_content_parts_count_as_input(claude: anthropic.Anthropic, oai: openai.OpenAI):
    """The prompt is everything that has text: a system prompt, instructions, the parts of a message."""
    parts = [{"role": "user", "content": [{"type": "text", "text": "x" * 40}, {"type": "text", "text": "y" * 40}]}]
    reply = claude.messages.create(model="claude-sonnet-4", messages=parts, system="z" * 40, max_tokens=5)
    assert reply.usage.input_tokens == 30
    response = oai.responses.create(model="gpt-4o", input="x" * 40, instructions="y" * 40)
    assert response.usage.input_tokens == 20


def drain(stream: Iterator[Any]) -> list[Any]:
    """What a stream gives before its connection breaks, which it has to."""
    got: list[Any] = []

    def read() -> None:
        while True:
            got.append(next(stream))

    with pytest.raises(Exception, match="peer closed connection"):
        read()
    return got


@pytest.mark.parametrize("after", [0, 2, 3])
def test_a_dropped_stream_shows_exactly_the_pieces_before_the_drop(
    fake: Served, oai: openai.OpenAI, claude: anthropic.Anthropic, after: int
):
    """The client sees a broken connection after that many pieces of text, and no end and no usage."""
    fake.provider.set(output_tokens=25, disconnect_after=after)
    chunks = drain(oai.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) == after
    assert not any(chunk.usage or chunk.choices[0].finish_reason for chunk in chunks)
    events = drain(claude.messages.create(**ASK, max_tokens=500, stream=True))
    assert [event.type for event in events].count("content_block_delta") == after
    assert events[-1].type in ("content_block_start", "content_block_delta")


def test_a_drop_beyond_the_end_lets_the_stream_finish(fake: Served, oai: openai.OpenAI):
    fake.provider.set(output_tokens=25, disconnect_after=4)
    assert list(oai.chat.completions.create(**CHAT, stream=True))[-1].choices[0].finish_reason == "stop"


def test_a_dropped_plain_reply_is_a_connection_error(fake: Served, oai: openai.OpenAI):
    """The provider counted the call; the client cannot know whether it was billed."""
    fake.provider.set(disconnect_after=0)
    with pytest.raises(openai.APIConnectionError):
        oai.chat.completions.create(**CHAT)
    assert fake.provider.calls == 1


@pytest.mark.parametrize("stream", [False, True])
def test_completions(fake: Served, oai: openai.OpenAI, stream: bool):
    """The older text endpoint: the same text and usage, plain and streamed."""
    fake.provider.set(output_tokens=25, chunk_tokens=10)
    ask: dict[str, Any] = {"model": "instruct", "prompt": "x" * 40}
    if not stream:
        reply = oai.completions.create(**ask)
        assert (words(reply.choices[0].text), reply.usage.prompt_tokens, reply.usage.completion_tokens) == (25, 10, 25)
        return
    chunks = list(oai.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert words("".join(chunk.choices[0].text for chunk in chunks if chunk.choices)) == 25
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [25]


@pytest.mark.parametrize(("model", "tokens"), [("dall-e-3", None), ("gpt-image-1", 50)])
def test_images(fake: Served, oai: openai.OpenAI, model: str, tokens: int | None):
    """One image for each of `n`; the models that are sold by tokens report them."""
    reply = oai.images.generate(model=model, prompt="x" * 40, n=2)
    assert len(reply.data) == 2
    assert (reply.usage and reply.usage.output_tokens) == (tokens and 2 * tokens)
