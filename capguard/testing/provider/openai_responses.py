"""OpenAI's responses, plain and streamed."""

from __future__ import annotations

from collections.abc import Iterator

from capguard.testing.provider.dialect import Dialect, event
from capguard.testing.provider.openai_errors import error
from capguard.testing.provider.reply import Json, Reply


def _plain(reply: Reply) -> Json:
    status = "incomplete" if reply.truncated else "completed"
    return {
        **_open(reply),
        "status": status,
        "incomplete_details": {"reason": "max_output_tokens"} if reply.truncated else None,
        "output": [_item(reply, status, [_part(reply.text)])],
        "usage": _usage(reply),
    }


def _events(reply: Reply) -> Iterator[bytes]:
    for number, (kind, fields) in enumerate(_story(reply)):
        yield event({"type": kind, "sequence_number": number, **fields}, kind)


def _story(reply: Reply) -> Iterator[tuple[str, Json]]:
    item: Json = {"output_index": 0}
    part: Json = {"item_id": f"msg_{reply.id}", "output_index": 0, "content_index": 0}
    whole = _plain(reply)
    yield "response.created", {"response": _open(reply)}
    yield "response.in_progress", {"response": _open(reply)}
    yield "response.output_item.added", {**item, "item": _item(reply, "in_progress", [])}
    yield "response.content_part.added", {**part, "part": _part("")}
    for piece in reply.pieces():
        yield "response.output_text.delta", {**part, "delta": piece, "logprobs": []}
    yield "response.output_text.done", {**part, "text": reply.text, "logprobs": []}
    yield "response.content_part.done", {**part, "part": _part(reply.text)}
    yield "response.output_item.done", {**item, "item": whole["output"][0]}
    yield f"response.{whole['status']}", {"response": whole}


def _open(reply: Reply) -> Json:
    return {
        "id": f"resp_{reply.id}",
        "object": "response",
        "created_at": reply.created,
        "model": reply.model,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": reply.request.get("instructions"),
        "max_output_tokens": reply.request.get("max_output_tokens"),
        "metadata": {},
        "output": [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }


def _item(reply: Reply, status: str, content: list[Json]) -> Json:
    return {"id": f"msg_{reply.id}", "type": "message", "role": "assistant", "status": status, "content": content}


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(reply: Reply) -> Json:
    return {
        "input_tokens": reply.input_tokens,
        "input_tokens_details": {"cached_tokens": reply.cached, "cache_write_tokens": 0},
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"reasoning_tokens": reply.reasoning},
        "total_tokens": reply.input_tokens + reply.output_tokens,
    }


RESPONSES = Dialect(
    path="/v1/responses",
    required=("model", "input"),
    limits=("max_output_tokens",),
    plain=_plain,
    events=_events,
    error=error,
)
