"""What LiteLLM answered, recorded for its booking: a cache hit, a usage, images, or a stream that is metered."""

from __future__ import annotations

from typing import Any

from capguard.call import Call
from capguard.integrations.litellm.asked import Asked
from capguard.integrations.litellm.streams import AsyncChunks, SyncChunks
from capguard.pricing.fields import get


def record(asked: Asked, call: Call, reply: Any) -> Any:
    """Record a reply; a stream comes back metered. An inner layer that charges this call is not disturbed."""
    if asked.streams and hasattr(reply, "__next__"):
        _record_cache(call, reply)
        return SyncChunks(call.metered_sync(reply), reply, hides_usage=asked.hides_usage)
    record_whole(call, reply)
    return reply


def arecord(asked: Asked, call: Call, reply: Any) -> Any:
    """As `record`, for a reply of an async function."""
    if asked.streams and hasattr(reply, "__anext__"):
        _record_cache(call, reply)
        return AsyncChunks(call.metered_async(reply), reply, hides_usage=asked.hides_usage)
    record_whole(call, reply)
    return reply


def is_cached(reply: Any) -> bool:
    """Whether LiteLLM answered from its own cache."""
    return get(getattr(reply, "_hidden_params", None), "cache_hit") is True


def _record_cache(call: Call, reply: Any) -> None:
    if is_cached(reply) and not call.recorded:
        call.answered_from_cache()


def record_whole(call: Call, reply: Any) -> None:
    """Record a reply that is no stream."""
    if call.recorded:
        return
    if is_cached(reply):
        call.answered_from_cache()
    else:
        call.settle(reply)
