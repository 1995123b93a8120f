"""OpenAI's client under caps: the same client, the same replies, and a user who cannot spend more than the plan allows.

    python examples/openai_client.py

It runs against a fake provider on loopback. With the real one, leave `serve` and `base_url` out.
"""

from __future__ import annotations

import asyncio
from typing import Any

from openai import AsyncOpenAI, OpenAI

from capguard import CapExceeded, Guard, identify
from capguard.integrations.openai import cap
from capguard.testing.provider import Settings, serve

MESSAGES: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
POLICY = {
    "caps": [
        {"id": "cheaper", "limit": 0.005, "action": "downgrade"},
        {"id": "monthly", "limit": 0.01},
    ],
    "downgrade": {"gpt-4o": "gpt-4o-mini"},
}


def talk(client: OpenAI) -> None:
    """Plain, streamed, with the helpers: each call is held before it is sent."""
    for number in (1, 2):
        reply = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=300)
        print(f"answer {number}: {reply.model}")
    with client.chat.completions.stream(model="gpt-4o", messages=MESSAGES, max_tokens=300) as stream:
        print(f"streamed: {stream.get_final_completion().model}")


async def at_once(client: AsyncOpenAI) -> None:
    """Twenty calls at once, and room for a few."""
    calls = [client.responses.create(model="o3", input="Hello?", max_output_tokens=300) for _ in range(20)]
    done = await asyncio.gather(*calls, return_exceptions=True)
    refused = [each for each in done if isinstance(each, CapExceeded)]
    print(f"at once: {20 - len(refused)} answered, {len(refused)} refused: {refused[0].cap.id}, {refused[0].reason}")
    await client.close()


def main() -> None:
    """One client for everybody; who pays is in the context, or bound."""
    with (
        serve(Settings(input_tokens=200, output_tokens=250, latency=0.2)) as fake,
        Guard("memory://", policy=POLICY) as guard,
    ):
        client = cap(OpenAI(base_url=fake.url, api_key="any"), guard)
        with identify(user="ann"):
            talk(client)
        asyncio.run(at_once(cap(AsyncOpenAI(base_url=fake.url, api_key="any"), guard, user="bob")))
        print(
            f"ann has spent ${guard.status(user='ann').caps['monthly'].settled};"
            f" {len(guard.verify().differences)} differences"
        )
        client.close()


if __name__ == "__main__":
    main()
