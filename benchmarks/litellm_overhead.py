"""`python -m benchmarks.litellm_overhead`: what caps add to a call of LiteLLM, beside LiteLLM bare and its own limiter.

Every call is a `mock_response`, so that nothing but LiteLLM and the caps is timed; three caps, in memory. Rows are
measured in turns with the bare call; the difference of the medians is what one call pays.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm

from benchmarks.pairs import Pair, in_turns
from capguard import Guard
from capguard.integrations.litellm import CapguardCallback, CappedLiteLLM

POLICY = {
    "caps": [
        {"id": "monthly", "limit": 1_000_000},
        {"id": "weekly", "limit": 1_000_000, "window": "weekly"},
        {"id": "company", "limit": 5_000_000, "per": [], "window": "daily"},
    ]
}
CALL: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Summarise the attached minutes in three sentences, please."}],
    "max_tokens": 200,
    "user": "user_1",
    "mock_response": "Three sentences.",
}
MODELS = [{"model_name": "group", "litellm_params": {"model": "openai/gpt-4o", "api_key": "any"}}]
BUDGET = {"openai": {"time_period": "1d", "budget_limit": 1_000_000}}


def main() -> None:
    """Print one line per form."""
    litellm.suppress_debug_info = True
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    def waited(call: Callable[[], Awaitable[Any]]) -> Callable[[], Any]:
        return lambda: loop.run_until_complete(call())  # type: ignore[arg-type]

    guard = Guard("memory://", policy=POLICY)
    capped = CappedLiteLLM(guard)
    bare = litellm.Router(model_list=MODELS)
    router = capped.router(bare)
    model = {"model": "openai/gpt-4o"}
    group = {"model": "group"}
    calls = {
        "completion": lambda: litellm.completion(**CALL, **model),
        "acompletion": waited(lambda: litellm.acompletion(**CALL, **model)),
        "Router.acompletion": waited(lambda: bare.acompletion(**CALL, **group)),
    }
    show("completion, capped", lambda: capped.completion(**CALL, **model), calls["completion"])
    show("acompletion, capped", waited(lambda: capped.acompletion(**CALL, **model)), calls["acompletion"])
    show("Router.acompletion, capped", waited(lambda: router.acompletion(**CALL, **group)), calls["Router.acompletion"])
    callback = CapguardCallback(guard)

    def with_callback() -> None:
        litellm.callbacks.append(callback)
        try:
            calls["acompletion"]()
        finally:
            litellm.callbacks.remove(callback)

    show("acompletion, CapguardCallback", with_callback, calls["acompletion"])

    async def make() -> litellm.Router:
        return litellm.Router(model_list=MODELS, provider_budget_config=BUDGET)

    limited = loop.run_until_complete(make())  # last: its limiter stays in litellm.callbacks
    theirs = list(litellm.callbacks)
    litellm.callbacks.clear()

    def with_limiter() -> None:
        litellm.callbacks.extend(theirs)
        try:
            loop.run_until_complete(limited.acompletion(**CALL, **group))
        finally:
            litellm.callbacks.clear()

    show("Router.acompletion, LiteLLM's provider budget", with_limiter, calls["Router.acompletion"])


def show(what: str, ours: Callable[[], Any], bare: Callable[[], Any]) -> None:
    pair: Pair = in_turns(ours, bare, rounds=20, batch=20)
    low, high = pair.spread
    added = pair.ours_us - pair.theirs_us
    print(f"{what:48} +{added:7.0f} us on {pair.theirs_us:7.0f} us   {pair.ratio:5.2f}x ({low:.2f}-{high:.2f})")


if __name__ == "__main__":
    main()
