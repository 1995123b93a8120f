"""Work that is finished whatever becomes of the task that waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_RUNNING: set[asyncio.Future[Any]] = set()
"""An event loop alone would let go of them when the task that waits is cancelled."""


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """What `work` comes to. Whoever waits may be cancelled, twice, or by the scope of a library: the work goes on."""
    task = asyncio.ensure_future(work)
    _RUNNING.add(task)
    task.add_done_callback(_RUNNING.discard)
    return await asyncio.shield(task)
