"""What LangChain reports at the end of a call, booked: a cache hit, a usage, or the text that came, counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from capguard.call import Call
from capguard.pricing.fields import get, items_of, path
from capguard.pricing.responses import read_usage


def tell(call: Call, response: Any) -> bool:
    """Record what `response`, an LLMResult or ChatResult, says. False where its text was taken to be counted."""
    if call.recorded:
        return True
    usage = read_usage(response)
    if is_cached(response):
        call.answered_from_cache()
    elif usage is not None:
        call.settle(usage=usage)
    else:
        _read(call, response)
        return False
    return True


def finish(call: Call, response: Any) -> None:
    """Book a call that came to its end."""
    if tell(call, response):
        call.finish()
    else:
        call.finish_seen()


async def afinish(call: Call, response: Any) -> None:
    """As `finish`, without blocking the event loop."""
    if tell(call, response):
        await call.afinish()
    else:
        await call.afinish_seen()


def is_cached(response: Any) -> bool:
    """Whether LangChain answered from its own cache: it reports the usage again, and marks it."""
    return any(path(get(each, "message"), "usage_metadata", "total_cost") == 0 for each in _generations(response))


def _read(call: Call, response: Any) -> None:
    """Let the text be counted, unless it was as it passed."""
    reader = call.reader()
    if not reader.text:
        for generation in _generations(response):
            message = get(generation, "message")
            reader.feed(get(generation, "text") if message is None else message)


def _generations(response: Any) -> Iterator[Any]:
    for each in items_of(get(response, "generations")):
        yield from each if isinstance(each, list) else (each,)
