"""One attempt to reach a provider through LiteLLM: held before, booked after, whatever happens between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from capguard.guard import Guard
from capguard.integrations.litellm.asked import Asked
from capguard.integrations.litellm.covered import COVERED
from capguard.integrations.litellm.replies import arecord, record


def attempt(guard: Guard, asked: Asked, function: Callable[..., Any]) -> Any:
    """Call `function` under the caps of `asked`. Raises CapExceeded before anything is sent."""
    with asked.call(guard) as call:
        arguments = asked.arguments(call)
        COVERED.put(arguments["litellm_call_id"], None)
        return record(asked, call, function(**arguments))


async def aattempt(guard: Guard, asked: Asked, function: Callable[..., Awaitable[Any]]) -> Any:
    """As `attempt`, for an async function."""
    async with asked.call(guard) as call:
        arguments = asked.arguments(call)
        COVERED.put(arguments["litellm_call_id"], None)
        return arecord(asked, call, await function(**arguments))
