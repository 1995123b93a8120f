"""LiteLLM's functions under caps: blocked, sent to a cheaper model, streamed, and fifty at once on room for four.

    python examples/litellm_sdk.py

It runs against a fake provider on loopback, so it needs no key and costs nothing. With the real ones, leave `serve` and
`to` out and call as you always do.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # LiteLLM would look for prices on the network

from capguard import CapExceeded, Guard, identify
from capguard.integrations.litellm import CappedLiteLLM
from capguard.testing.provider import Settings, serve

POLICY: dict[str, Any] = {
    "caps": [
        {"id": "cheaper", "limit": 0.005, "action": "downgrade"},
        {"id": "monthly", "limit": 0.006},
        {"id": "calls", "limit": 4, "unit": "requests", "match": {"feature": "burst"}},
    ],
    "downgrade": {"gpt-4o": "gpt-4o-mini"},
}
MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]


async def burst(capped: CappedLiteLLM, to: dict[str, Any]) -> int:
    """How many of fifty parallel calls get through."""

    async def one() -> bool:
        try:
            await capped.acompletion(model="gpt-4o-mini", messages=MESSAGES, max_tokens=20, user="eve", **to)
        except CapExceeded:
            return False
        return True

    with identify(feature="burst"):
        return sum(await asyncio.gather(*(one() for _ in range(50))))


def main() -> None:
    """Ann asks until nothing is left."""
    with serve(Settings(input_tokens=200, output_tokens=100)) as fake, Guard("memory://", policy=POLICY) as guard:
        to = {"api_base": fake.url, "api_key": "any"}
        capped = CappedLiteLLM(guard)
        try:
            for number in range(1, 100):
                reply = capped.completion(model="openai/gpt-4o", messages=MESSAGES, max_tokens=100, user="ann", **to)
                print(
                    f"answer {number}: {reply.model}, ann has spent ${guard.status(user='ann').caps['monthly'].settled}"
                )
        except CapExceeded as refused:
            print(f"refused by {refused.cap.id}: {refused.reason}")

        words = capped.completion(model="gpt-4o", messages=MESSAGES, max_tokens=100, user="bob", stream=True, **to)
        print("".join(chunk.choices[0].delta.content or "" for chunk in words)[:20], "...")
        print(f"a stream: bob has spent ${guard.status(user='bob').caps['monthly'].settled}")

        before = fake.provider.calls
        print(f"{asyncio.run(burst(capped, to))} of 50 passed, {fake.provider.calls - before} reached the provider")
        print(f"{len(guard.verify().differences)} differences")


if __name__ == "__main__":
    main()
