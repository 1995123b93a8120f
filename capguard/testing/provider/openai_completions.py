"""OpenAI's completions, the older text endpoint, plain and streamed."""

from __future__ import annotations

from collections.abc import Iterator

from capguard.testing.provider.dialect import Dialect, event
from capguard.testing.provider.openai_errors import error
from capguard.testing.provider.reply import Json, Reply


def _plain(reply: Reply) -> Json:
    choices = [_choice(index, reply.text, _finish(reply)) for index in range(reply.choices)]
    return {**_head(reply), "choices": choices, "usage": _usage(reply)}


def _events(reply: Reply) -> Iterator[bytes]:
    head = _head(reply)
    for index in range(reply.choices):
        for piece in reply.pieces():
            yield event({**head, "choices": [_choice(index, piece, None)]})
        yield event({**head, "choices": [_choice(index, "", _finish(reply))]})
    options = reply.request.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        yield event({**head, "choices": [], "usage": _usage(reply)})
    yield b"data: [DONE]\n\n"


def _head(reply: Reply) -> Json:
    return {"id": f"cmpl-{reply.id}", "object": "text_completion", "created": reply.created, "model": reply.model}


def _choice(index: int, text: str, finish: str | None) -> Json:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _finish(reply: Reply) -> str:
    return "length" if reply.truncated else "stop"


def _usage(reply: Reply) -> Json:
    given, made = reply.input_tokens, reply.total_output
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


COMPLETIONS = Dialect(
    path="/v1/completions",
    required=("model", "prompt"),
    limits=("max_tokens",),
    plain=_plain,
    events=_events,
    error=error,
)
