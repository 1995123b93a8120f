"""Anthropic's messages, plain and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

from capguard.testing.provider.dialect import Dialect, event
from capguard.testing.provider.reply import Json, Reply

_ERRORS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _plain(reply: Reply) -> Json:
    return {
        **_open(reply),
        "content": [{"type": "text", "text": reply.text}],
        "stop_reason": _stop(reply),
        "usage": _usage(reply),
    }


def _events(reply: Reply) -> Iterator[bytes]:
    for kind, fields in _story(reply):
        yield event({"type": kind, **fields}, kind)


def _story(reply: Reply) -> Iterator[tuple[str, Json]]:
    # The first event tells the input and the token already there; the last one the totals, never to be added up.
    first = {**_usage(reply), "output_tokens": min(1, reply.output_tokens)}
    yield "message_start", {"message": {**_open(reply), "usage": first}}
    yield "content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}
    yield "ping", {}
    for piece in reply.pieces():
        yield "content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": piece}}
    yield "content_block_stop", {"index": 0}
    yield "message_delta", {"delta": {"stop_reason": _stop(reply), "stop_sequence": None}, "usage": _total(reply)}
    yield "message_stop", {}


def _open(reply: Reply) -> Json:
    return {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _stop(reply: Reply) -> str:
    return "max_tokens" if reply.truncated else "end_turn"


def _total(reply: Reply) -> Json:
    """Cumulative counts. `input_tokens` leaves out what the cache gave or took: the whole input is the sum of three."""
    total: Json = {
        "input_tokens": reply.input_tokens - reply.cached - reply.cache_written,
        "cache_creation_input_tokens": reply.cache_written,
        "cache_read_input_tokens": reply.cached,
        "output_tokens": reply.output_tokens,
    }
    if reply.reasoning:
        total["output_tokens_details"] = {"thinking_tokens": reply.reasoning}
    return total


def _usage(reply: Reply) -> Json:
    written = {"ephemeral_5m_input_tokens": reply.cache_written, "ephemeral_1h_input_tokens": 0}
    return {**_total(reply), "cache_creation": written, "service_tier": "standard"}


def _error(status: int, message: str) -> Json:
    usual = "invalid_request_error" if status < 500 else "api_error"
    kind = _ERRORS.get(status, usual)
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": f"req_{uuid4().hex}"}


MESSAGES = Dialect(
    path="/v1/messages",
    required=("model", "messages", "max_tokens"),
    limits=("max_tokens",),
    plain=_plain,
    events=_events,
    error=_error,
)
