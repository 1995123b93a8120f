"""Streams: the text that was seen, and the usage when it is reported, for every shape that passes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from capguard.pricing.stream import StreamReader
from capguard.pricing.usage import Usage
from tests.pricing import wire
from tests.pricing.test_responses import ASK, FULL, Endless, Hostile, litellm

__all__ = ["litellm"]  # a fixture

CHAT = Usage(model="gpt-4o-2024-08-06", **FULL)
RESPONSE = Usage(model="gpt-5-2025-08-07", cache_write_tokens=5, **FULL)
MESSAGE = Usage(
    model="claude-sonnet-4-5-20250929", input_tokens=100, cache_read_tokens=40, cache_write_tokens=5, output_tokens=30
)
SPOKEN = 'Héllolook{"q":1}'


def read(chunks: Any) -> StreamReader:
    reader = StreamReader()
    for chunk in chunks:
        reader.feed(chunk)
    return reader


def openai_chat() -> Any:
    body = wire.sse(wire.CHAT_STREAM)
    return wire.openai_client(body).chat.completions.create(stream=True, **ASK)


def openai_responses() -> Any:
    body = wire.sse(wire.RESPONSE_STREAM, named=True, done=False)
    return wire.openai_client(body).responses.create(stream=True, model="m", input="x")


def anthropic_messages() -> Any:
    body = wire.sse(wire.MESSAGE_STREAM, named=True, done=False)
    return wire.anthropic_client(body).messages.create(stream=True, max_tokens=9, **ASK)


STREAMS = [
    ("openai chat objects", openai_chat, CHAT, SPOKEN),
    ("openai chat dicts", lambda: wire.CHAT_STREAM, CHAT, SPOKEN),
    ("openai responses objects", openai_responses, RESPONSE, "Hello{}"),
    ("openai responses dicts", lambda: wire.RESPONSE_STREAM, RESPONSE, "Hello{}"),
    ("anthropic objects", anthropic_messages, MESSAGE, "Hello"),
    ("anthropic dicts", lambda: wire.MESSAGE_STREAM, MESSAGE, "Hello"),
    ("bytes of a chat", lambda: [wire.sse(wire.CHAT_STREAM)], CHAT, SPOKEN),
    ("bytes of responses", lambda: [wire.sse(wire.RESPONSE_STREAM, named=True)], RESPONSE, "Hello{}"),
    ("bytes of anthropic", lambda: [wire.sse(wire.MESSAGE_STREAM, named=True, done=False)], MESSAGE, "Hello"),
]


@pytest.mark.parametrize(("make", "usage", "text"), [case[1:] for case in STREAMS], ids=[case[0] for case in STREAMS])
def test_reads_whole_streams(make: Any, usage: Usage, text: str) -> None:
    """Final usage, all text, the model's name."""
    reader = read(make())
    assert reader.usage == usage
    assert not reader.partial
    assert reader.text == text
    assert reader.model == usage.model
    assert reader.unread == 0


def test_anthropics_stream_helper_says_everything_once() -> None:
    """The helper adds derived events to the raw ones; the text is not doubled."""
    body = wire.sse(wire.MESSAGE_STREAM, named=True, done=False)
    with wire.anthropic_client(body).messages.stream(max_tokens=9, **ASK) as stream:
        reader = read(stream)
    assert (reader.usage, reader.text) == (MESSAGE, "Hello")


def test_openais_stream_helper_says_everything_once() -> None:
    """The helper wraps the chunks in events and adds derived ones."""
    body = wire.sse(wire.CHAT_STREAM)
    with wire.openai_client(body).chat.completions.stream(**ASK) as stream:
        reader = read(stream)
    assert (reader.usage, reader.text) == (CHAT, SPOKEN)


def test_langchain_chunks_add_up() -> None:
    """Input comes with one chunk, output with others; one request in all."""
    chunks = [
        AIMessageChunk(
            content="Hel",
            usage_metadata={
                "input_tokens": 100,
                "output_tokens": 0,
                "total_tokens": 100,
                "input_token_details": {"cache_read": 40},
            },
        ),
        ChatGenerationChunk(message=AIMessageChunk(content=[{"type": "text", "text": "lo"}])),
        AIMessageChunk(
            content="", tool_call_chunks=[{"name": "f", "args": "{}", "id": "1", "index": 0, "type": "tool_call_chunk"}]
        ),
        AIMessageChunk(
            content="",
            usage_metadata={"input_tokens": 0, "output_tokens": 30, "total_tokens": 30},
            response_metadata={"model_name": "claude-x", "stop_reason": "end_turn"},
        ),
    ]
    reader = read(chunks[:3])
    assert reader.partial
    assert reader.reported_input == 100
    reader.feed(chunks[3])
    assert reader.usage == Usage(model="claude-x", input_tokens=100, cache_read_tokens=40, output_tokens=30)
    assert (reader.partial, reader.text) == (False, "Hello{}")


@pytest.mark.filterwarnings("ignore:.*ReadOnly.*")
def test_litellm_stream(litellm: Any) -> None:
    """LiteLLM's own chunks, with usage asked for."""
    stream = litellm.completion(
        model="gpt-4o", mock_response="Hello there", stream=True, stream_options={"include_usage": True}, **MESSAGES
    )
    reader = read(stream)
    assert reader.text == "Hello there"
    assert reader.usage is not None
    assert reader.usage.input_tokens > 0
    assert not reader.partial


MESSAGES = {"messages": [{"role": "user", "content": "say hello"}]}


def test_an_abandoned_anthropic_stream_knows_its_input() -> None:
    """The input is billed even if the reader leaves; the output is counted from the text."""
    reader = read(wire.MESSAGE_STREAM[:3])
    assert reader.partial
    assert reader.reported_input == 100
    assert reader.text == "Hel"


def test_anthropics_usage_is_final_with_the_reason_to_stop() -> None:
    """The output counts as a whole once the reason is told, though message_stop never comes."""
    reader = read(wire.MESSAGE_STREAM[:-1])
    assert (reader.usage, reader.partial) == (MESSAGE, False)


def test_an_abandoned_openai_stream_knows_its_text_only() -> None:
    """No usage before the last chunk: None, never zero."""
    reader = read(wire.CHAT_STREAM[:3])
    assert (reader.usage, reader.partial, reader.reported_input, reader.text) == (None, False, None, "Héllo")


def test_cumulative_usage_on_every_chunk_is_partial_until_the_end() -> None:
    """Some hosts repeat a growing usage; the last one counts."""
    usages = [{"prompt_tokens": 10, "completion_tokens": n} for n in (1, 2, 3)]
    chunks = [wire.chat_chunk({"content": "x"}, usage=usage) for usage in usages]
    reader = read(chunks)
    assert reader.partial
    assert reader.usage is not None
    assert (reader.usage.input_tokens, reader.usage.output_tokens) == (10, 3)
    reader.feed(wire.chat_chunk({}, finish="stop"))
    assert not reader.partial
    assert reader.usage.output_tokens == 3


def test_a_first_chunk_without_choices_ends_nothing() -> None:
    """Azure opens with the results of its prompt filter."""
    usage = {"prompt_tokens": 10, "completion_tokens": 1}
    assert read([wire.chat_chunk(None), wire.chat_chunk({"content": "x"}, usage=usage)]).partial


def test_an_incomplete_response_is_billed_too() -> None:
    """`response.incomplete` ends a stream as `response.completed` does."""
    reader = read([{"type": "response.incomplete", "response": wire.RESPONSE}])
    assert (reader.usage, reader.partial) == (RESPONSE, False)


def test_zero_usage_is_no_report() -> None:
    """A last chunk of zeros says nothing."""
    zero = wire.chat_chunk(None, usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
    assert read([*wire.CHAT_STREAM[:3], zero]).usage is None


def test_a_broken_message_delta_does_not_lose_the_input() -> None:
    """Some proxies send input_tokens 0 with the last event."""
    last = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"input_tokens": 0, "output_tokens": 30},
    }
    assert read([*wire.MESSAGE_STREAM[:4], last]).usage == MESSAGE


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_bytes_may_be_split_anywhere(data: st.DataObject) -> None:
    """A network knows no lines and no characters: any cut gives the same answer."""
    name, events, usage, text = data.draw(
        st.sampled_from(
            [
                ("chat", wire.CHAT_STREAM, CHAT, SPOKEN),
                ("anthropic", wire.MESSAGE_STREAM, MESSAGE, "Hello"),
            ]
        )
    )
    body = wire.sse(events, named=name == "anthropic").replace(b"\\u00e9", "é".encode())
    if data.draw(st.booleans()):
        body = body.replace(b"\n", b"\r\n")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=20)))
    reader = read(body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True))
    assert (reader.usage, reader.text, reader.partial) == (usage, text, False)


TEXTS = [
    (["Hel", "lo"], "Hello"),
    ([b"Hel", b"lo\nyou", b"!"], "Hello\nyou!"),
    ([b"data: Hel\n\n", b"data: lo\n\n"], "Hello"),
    ([b": ping\n\nevent: x\nid: 1\nretry: 5\n\n"], ""),
    ([b"data: {bro"], ""),
    ([b"dat"], ""),
    ([bytearray(b"a"), memoryview(b"b")], "ab"),
    (["\ud800"], "\ud800"),
    ([b"\xff\xfe\n"], "\ufffd\ufffd\n"),
]


@pytest.mark.parametrize(("chunks", "text"), TEXTS)
def test_plain_text_streams(chunks: list[Any], text: str) -> None:
    """An application's own stream of text is seen as text, complete or not."""
    assert read(chunks).text == text


ODD = [None, 0, 5.0, object(), Endless(), [], {}, {"type": 5}, {"choices": 5}, {"choices": [None, 5]}, {"type": "ping"}]


@pytest.mark.parametrize("chunk", ODD, ids=[str(n) for n in range(len(ODD))])
def test_odd_chunks_are_passed_over(chunk: Any) -> None:
    """A chunk that nobody knows changes nothing."""
    reader = read([chunk, "a"])
    assert (reader.usage, reader.text) == (None, "a")


def test_a_hostile_chunk_is_counted_not_raised() -> None:
    """A reply is never turned into an exception; that a chunk was not read shows."""
    reader = read([Hostile(), "a"])
    assert (reader.text, reader.unread) == ("a", 1)


def test_a_line_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line beyond the bound is given up; what follows is read."""
    monkeypatch.setattr("capguard.pricing.sse.LONGEST_LINE", 100)
    body = [b"data: {" + b"x" * 60, b"y" * 60, b"}\n\n", wire.sse(wire.CHAT_STREAM)]
    reader = read(body)
    assert reader.usage == CHAT
    assert "x" not in reader.text
    assert json.dumps(reader.text)
