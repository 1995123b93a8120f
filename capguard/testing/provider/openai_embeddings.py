"""OpenAI's embeddings: small vectors, as floats or as base64, which the official client asks for."""

from __future__ import annotations

import base64
from array import array

from capguard.testing.provider.dialect import Dialect
from capguard.testing.provider.openai_errors import error
from capguard.testing.provider.reply import Json, Reply

_USUAL_DIMENSIONS = 8


def _plain(reply: Reply) -> Json:
    vector = _vector(reply.request)
    rows = [{"object": "embedding", "index": index, "embedding": vector} for index in range(_inputs(reply.request))]
    usage = {"prompt_tokens": reply.input_tokens, "total_tokens": reply.input_tokens}
    return {"object": "list", "data": rows, "model": reply.model, "usage": usage}


def _inputs(request: Json) -> int:
    """A list of texts or of token lists is many inputs; a text, or one list of tokens, is one."""
    given = request["input"]
    many = isinstance(given, list) and bool(given) and not isinstance(given[0], int)
    return len(given) if many else 1


def _vector(request: Json) -> list[float] | str:
    dimensions = request.get("dimensions") or _USUAL_DIMENSIONS
    if type(dimensions) is not int or not 1 <= dimensions <= 4096:
        raise ValueError(f"dimensions: {dimensions!r} is refused; allowed: a whole number from 1 to 4096")
    unit = array("f", [1.0] + [0.0] * (dimensions - 1))
    if request.get("encoding_format") == "base64":
        return base64.b64encode(unit.tobytes()).decode()
    return unit.tolist()


EMBEDDINGS = Dialect(
    path="/v1/embeddings",
    required=("model", "input"),
    limits=(),
    plain=_plain,
    events=None,
    error=error,
)
