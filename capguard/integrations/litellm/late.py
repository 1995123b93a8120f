"""What an event tells of a call that is over: a cache hit, a reply, or the text of a whole stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capguard.integrations.litellm.attempts import Attempt
from capguard.integrations.litellm.replies import is_cached, record_whole
from capguard.pricing.fields import get


def record(attempt: Attempt, kwargs: Mapping[str, Any], reply: Any) -> None:
    """Record it; finishing the call books it."""
    asked, call = attempt.asked, attempt.call
    if kwargs.get("cache_hit") is True or is_cached(reply):
        call.answered_from_cache()
    elif asked.streams and not call.recorded:
        call.read_along().feed(_last_chunk(reply))
        call.stream_ended()
    else:
        record_whole(call, reply)


def _last_chunk(reply: Any) -> Any:
    """A streamed reply, put together by LiteLLM, as its last chunk would tell it."""
    if get(reply, "choices") is not None:
        return reply
    return {"type": "response.completed", "response": get(reply, "response") or reply}
