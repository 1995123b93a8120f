"""`python -m benchmarks.langchain_loop`: how long LangChain's handler holds the event loop, per callback and ledger.

A model that answers at once is called from 16 tasks; `guard.reserve` and `guard.settle` alone are timed beside it.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata

from benchmarks.redis_ledger import server
from capguard import Guard, Usage
from capguard.integrations.langchain import CapguardCallbackHandler

POLICY = {
    "caps": [
        {"id": "monthly", "limit": 1_000_000},
        {"id": "weekly", "limit": 1_000_000, "window": "weekly"},
        {"id": "company", "limit": 5_000_000, "per": [], "window": "daily"},
    ]
}
TASKS, CALLS, STREAMS = 16, 60, 5
ASKED = "Summarise the attached minutes in three sentences, please."
STEPS = ("on_chat_model_start", "on_llm_end", "on_llm_new_token")

Took = dict[str, list[float]]


def main() -> None:
    print(f"{'microseconds: p50 (p99)':28} {'memory':>20} {'SQLite':>20} {'Redis':>20}")
    with tempfile.TemporaryDirectory() as folder, server() as url:
        ledgers = ("memory://", f"sqlite:///{folder}/ledger.db", url)
        columns = [measured(each) for each in ledgers]
    for name in columns[0]:
        print(f"{name:28} " + " ".join(f"{shown(column[name]):>20}" for column in columns))


def measured(url: str) -> Took:
    took: Took = defaultdict(list)
    with Guard(url, policy=POLICY) as guard:
        handler = timed(guard, took)
        config = {"callbacks": [handler], "metadata": {"user_id": "user_1"}}
        asyncio.run(calls(config))
        for each in took.values():  # the first round warms up
            each.clear()
        asyncio.run(calls(config))
        alone(guard, took)
    return took


def timed(guard: Guard, took: Took) -> CapguardCallbackHandler:
    """A handler that notes how long each of its callbacks takes."""
    handler = CapguardCallbackHandler(guard)
    for step in STEPS:
        setattr(handler, step, noting(getattr(handler, step), took[step]))
    return handler


def noting(work: Callable[..., Any], took: list[float]) -> Callable[..., Any]:
    def noted(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return work(*args, **kwargs)
        finally:
            took.append(time.perf_counter() - began)

    return noted


async def calls(config: Any) -> None:
    usage = UsageMetadata(input_tokens=20, output_tokens=12, total_tokens=32)
    said = AIMessage("Three sentences, which nobody has read before, and more.", usage_metadata=usage)
    model: Any = GenericFakeChatModel(messages=itertools.repeat(said))

    async def task() -> None:
        for _ in range(CALLS):
            await model.ainvoke(ASKED, config, model="gpt-4o", max_tokens=200)
        for _ in range(STREAMS):
            async for _ in model.astream(ASKED, config, model="gpt-4o", max_tokens=200):
                pass

    await asyncio.gather(*(task() for _ in range(TASKS)))


def alone(guard: Guard, took: Took) -> None:
    messages = [HumanMessage(ASKED)]
    reserve = noting(guard.reserve, took["guard.reserve alone"])
    settle = noting(guard.settle, took["guard.settle alone"])
    for _ in range(TASKS * CALLS):
        held = reserve(user="user_1", model="gpt-4o", messages=messages, max_tokens=200)
        settle(held, usage=Usage(input_tokens=20, output_tokens=12))


def shown(seconds: list[float]) -> str:
    seconds.sort()
    p50, p99 = statistics.median(seconds), seconds[int(len(seconds) * 0.99)]
    return f"{p50 * 1e6:.0f} ({p99 * 1e6:.0f})"


if __name__ == "__main__":
    main()
