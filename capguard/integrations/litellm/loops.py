"""Running a coroutine to its end from synchronous code, wherever that code runs."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def finished(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, from a loop of its own; in a thread of its own where this one runs a loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        in_loop = False
    else:
        in_loop = True
    # not inside of that handler: it would take the place of the context that tells what a provider's error was
    if not in_loop:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, thread_name_prefix="capguard-litellm") as pool:
        return pool.submit(contextvars.copy_context().run, asyncio.run, work).result()
