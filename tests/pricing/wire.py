"""Replies as providers send them, served to the real SDK clients by an in-process transport."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import anthropic
import openai

CHAT_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 30,
    "total_tokens": 130,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 10},
}
CHAT = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
    "usage": CHAT_USAGE,
}
COMPLETION = {
    "id": "t1",
    "object": "text_completion",
    "created": 1,
    "model": "gpt-3.5-turbo-instruct",
    "choices": [{"index": 0, "finish_reason": "stop", "text": "hi", "logprobs": None}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
}
EMBEDDING = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}
RESPONSE = {
    "id": "r1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-5-2025-08-07",
    "status": "completed",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {
            "id": "m1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "hi", "annotations": []}],
        }
    ],
    "usage": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 5},
        "output_tokens": 30,
        "output_tokens_details": {"reasoning_tokens": 10},
        "total_tokens": 130,
    },
}
MESSAGE = {
    "id": "a1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 55,
        "cache_read_input_tokens": 40,
        "cache_creation_input_tokens": 5,
        "output_tokens": 30,
    },
}


def chat_chunk(delta: dict[str, Any] | None, *, finish: str | None = None, usage: Any = None) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-2024-08-06",
        "choices": choices,
        "usage": usage,
    }


CHAT_STREAM = [
    chat_chunk({"role": "assistant", "content": ""}),
    chat_chunk({"content": "Hél"}),
    chat_chunk({"content": "lo"}),
    chat_chunk({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "look", "arguments": '{"q":'}}]}),
    chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
    chat_chunk({}, finish="tool_calls"),
    chat_chunk(None, usage=CHAT_USAGE),
]
RESPONSE_STREAM = [
    {
        "type": "response.created",
        "sequence_number": 0,
        "response": {**RESPONSE, "status": "in_progress", "usage": None},
    },
    {
        "type": "response.output_text.delta",
        "sequence_number": 1,
        "item_id": "m1",
        "output_index": 0,
        "content_index": 0,
        "delta": "Hello",
        "logprobs": [],
    },
    {
        "type": "response.function_call_arguments.delta",
        "sequence_number": 2,
        "item_id": "m1",
        "output_index": 0,
        "delta": "{}",
    },
    {"type": "response.completed", "sequence_number": 3, "response": RESPONSE},
]
MESSAGE_STREAM = [
    {
        "type": "message_start",
        "message": {**MESSAGE, "content": [], "stop_reason": None, "usage": {**MESSAGE["usage"], "output_tokens": 1}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 30},
    },
    {"type": "message_stop"},
]


def sse(events: Iterable[dict[str, Any]], *, done: bool = True, named: bool = False) -> bytes:
    """The events as the bytes of a server-sent stream."""
    lines = [(f"event: {event['type']}\n" if named else "") + f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join((*lines, "data: [DONE]\n\n" if done else "")).encode()


def _web(client: type) -> Any:
    """The package that an SDK's HTTP client is built on: httpx, or its successor."""
    base = next(kind for kind in client.__mro__[1:] if kind.__name__ in ("Client", "AsyncClient"))
    return import_module(base.__module__.partition(".")[0])


def _client(client: type, body: Any) -> Any:
    web, streamed = _web(client), isinstance(body, bytes)
    kind = "text/event-stream" if streamed else "application/json"
    content = body if streamed else json.dumps(body).encode()
    answer = web.MockTransport(lambda _: web.Response(200, headers={"content-type": kind}, content=content))
    return client(transport=answer)


def openai_client(body: Any) -> openai.OpenAI:
    """A real client whose every request is answered by `body`."""
    return openai.OpenAI(api_key="k", base_url="http://test", http_client=_client(openai.DefaultHttpxClient, body))


def async_openai_client(body: Any) -> openai.AsyncOpenAI:
    client = _client(openai.DefaultAsyncHttpxClient, body)
    return openai.AsyncOpenAI(api_key="k", base_url="http://test", http_client=client)


def anthropic_client(body: Any) -> anthropic.Anthropic:
    client = _client(anthropic.DefaultHttpxClient, body)
    return anthropic.Anthropic(api_key="k", base_url="http://test", http_client=client)
