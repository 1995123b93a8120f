"""What LangChain reports at the end of a call, booked: a cache hit, a usage, or the text that came, counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from capguard.call import Call
from capguard.pricing.fields import get, items_of, path
from capguard.pricing.stream import StreamReader
from capguard.pricing.usage import Usage


def record(call: Call, response: Any, usage: Usage | None, reader: StreamReader | None = None) -> None:
    """Record what `response`, an LLMResult or ChatResult, came to: its `usage`, else its text, counted.

    `reader` saw that text as it passed. An inner layer that charges this call is not disturbed.
    """
    if call.recorded:
        return
    if is_cached(response):
        call.answered_from_cache()
    elif usage is not None:
        call.settle(usage=usage)
    else:
        _read(reader or call.read_along(), response)
        call.stream_ended()


def is_cached(response: Any) -> bool:
    """Whether LangChain answered from its own cache: it reports the usage again, and marks it."""
    return any(path(get(each, "message"), "usage_metadata", "total_cost") == 0 for each in _generations(response))


def _read(reader: StreamReader, response: Any) -> None:
    if not reader.text:
        for generation in _generations(response):
            message = get(generation, "message")
            reader.feed(get(generation, "text") if message is None else message)


def _generations(response: Any) -> Iterator[Any]:
    for each in items_of(get(response, "generations")):
        yield from each if isinstance(each, list) else (each,)
