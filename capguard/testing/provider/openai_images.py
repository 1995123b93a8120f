"""OpenAI's images: one white pixel each. Models named gpt-image report tokens, the others are sold by the piece."""

from __future__ import annotations

from capguard.testing.provider.dialect import Dialect
from capguard.testing.provider.openai_errors import error
from capguard.testing.provider.reply import Json, Reply

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="


def _plain(reply: Reply) -> Json:
    images: Json = {"created": reply.created, "data": [{"b64_json": _PIXEL} for _ in range(reply.choices)]}
    return images | ({"usage": _usage(reply)} if reply.model.startswith("gpt-image") else {})


def _usage(reply: Reply) -> Json:
    given, made = reply.input_tokens, reply.total_output
    details = {"text_tokens": given, "image_tokens": 0}
    return {
        "input_tokens": given,
        "input_tokens_details": details,
        "output_tokens": made,
        "total_tokens": given + made,
    }


IMAGES = Dialect(
    path="/v1/images/generations",
    required=("model", "prompt"),
    limits=(),
    plain=_plain,
    events=None,
    error=error,
)
