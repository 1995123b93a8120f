"""`@capped` on functions that call a model: sync, async and generators; the identity comes from the context.

    python examples/decorator.py

A web framework's middleware would open `identify` once for each request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from openai import AsyncOpenAI, OpenAI

from capguard import CapExceeded, capped, configure, current_call, identify
from capguard.testing.provider import Settings, serve


@capped(feature="summary", max_tokens="length")
def summarise(client: OpenAI, prompt: str, length: int = 100, model: str = "gpt-4o") -> str:
    """The arguments say what to hold; the reply that is returned, or told to `current_call()`, says what to book."""
    messages: list[Any] = [{"role": "user", "content": prompt}]
    reply = client.chat.completions.create(model=model, messages=messages, max_tokens=length)
    current_call().settle(reply)
    return f"{model}: {len((reply.choices[0].message.content or '').split())} words"


@capped(feature="chat")
async def chat(client: AsyncOpenAI, messages: Any, model: str = "gpt-4o", max_tokens: int = 100) -> Any:
    """A reply of the SDK that is returned tells its usage itself."""
    return await client.chat.completions.create(model=model, messages=messages, max_tokens=max_tokens)


@capped(feature="chat")
def stream(client: OpenAI, prompt: str, model: str = "gpt-4o", max_tokens: int = 100) -> Iterator[Any]:
    """Chunks that are yielded are metered as they pass."""
    yield from client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        max_tokens=max_tokens,
        stream=True,
        stream_options={"include_usage": True},
    )


async def ask(url: str) -> str:
    """One call of the coroutine."""
    async with AsyncOpenAI(base_url=url, api_key="any") as client:
        reply = await chat(client, [{"role": "user", "content": "Hello"}])
        return str(reply.model)


def main() -> None:
    """Each kind once, a downgrade, and a refusal."""
    policy = {
        "caps": [
            {"id": "cheaper", "limit": 0.005, "action": "downgrade", "to": "gpt-4o-mini"},
            {"id": "hourly", "unit": "requests", "limit": 6, "window": "hourly"},
        ]
    }
    settings = Settings(input_tokens=100, output_tokens=100)
    with (
        configure("memory://", policy=policy) as guard,
        serve(settings) as fake,
        OpenAI(base_url=fake.url, api_key="any") as client,
        identify(user="ann"),
    ):
        print("coroutine:", asyncio.run(ask(fake.url)))
        print("generator:", len(list(stream(client, "Hello"))), "chunks")
        try:
            while True:
                print("function:", summarise(client, "A long text."))
        except CapExceeded as refused:
            print(f"refused: {refused}")
        print(f"ann has spent ${guard.status(user='ann').caps['cheaper'].settled}")


if __name__ == "__main__":
    main()
