"""OpenAI's chat completions, plain and streamed."""

from __future__ import annotations

from collections.abc import Iterator

from capguard.testing.provider.dialect import Dialect, event
from capguard.testing.provider.openai_errors import error
from capguard.testing.provider.reply import Json, Reply


def _plain(reply: Reply) -> Json:
    used = _tool_calls(reply)
    message = {"role": "assistant", "content": None, "tool_calls": used} if used else _said(reply)
    choice = {"message": message, "logprobs": None, "finish_reason": _finish(reply)}
    return {
        **_head(reply, "chat.completion"),
        "choices": [{"index": index, **choice} for index in range(reply.choices)],
        "usage": _usage(reply),
    }


def _events(reply: Reply) -> Iterator[bytes]:
    head = _head(reply, "chat.completion.chunk")
    options = reply.request.get("stream_options")
    with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
    # With include_usage every chunk has the field, null but in the last one, which has no choices.
    open_usage: Json = {"usage": None} if with_usage else {}
    for index in range(reply.choices):
        for delta, finish in _deltas(reply):
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
            yield event({**head, "choices": [choice], **open_usage})
    if with_usage:
        yield event({**head, "choices": [], "usage": _usage(reply)})
    yield b"data: [DONE]\n\n"


def _deltas(reply: Reply) -> Iterator[tuple[Json, str | None]]:
    yield {"role": "assistant", "content": "", "refusal": None}, None
    if used := _tool_calls(reply):
        yield {"tool_calls": [{"index": index, **call} for index, call in enumerate(used)]}, None
    for piece in () if used else reply.pieces():
        yield {"content": piece}, None
    yield {}, _finish(reply)


def _said(reply: Reply) -> Json:
    return {"role": "assistant", "content": reply.text, "refusal": None}


def _tool_calls(reply: Reply) -> list[Json]:
    """The first tool of the call, without arguments, while the settings want more of its results."""
    tools, results = reply.request.get("tools"), 0
    for message in reply.request["messages"]:
        results = 0 if message.get("role") == "user" else results + (message.get("role") == "tool")
    if not tools or results >= reply.settings.tool_rounds:
        return []
    function = {"name": tools[0]["function"]["name"], "arguments": "{}"}
    return [{"id": f"call_{reply.id}", "type": "function", "function": function}]


def _head(reply: Reply, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{reply.id}",
        "object": kind,
        "created": reply.created,
        "model": reply.model,
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }


def _finish(reply: Reply) -> str:
    if _tool_calls(reply):
        return "tool_calls"
    return "length" if reply.truncated else "stop"


def _usage(reply: Reply) -> Json:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.total_output,
        "total_tokens": reply.input_tokens + reply.total_output,
        "prompt_tokens_details": {"cached_tokens": reply.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reply.reasoning * reply.choices,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


CHAT = Dialect(
    path="/v1/chat/completions",
    required=("model", "messages"),
    limits=("max_completion_tokens", "max_tokens"),
    plain=_plain,
    events=_events,
    error=error,
)
