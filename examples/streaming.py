"""Streams: booked by the usage that they report, else by what passed; also when the reader leaves half way.

python examples/streaming.py
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import anthropic
import openai

from capguard import Guard
from capguard.testing.provider import Settings, serve

MESSAGES: list[Any] = [{"role": "user", "content": "Tell me a story."}]


def story(guard: Guard, client: openai.OpenAI, **options: Any) -> Iterator[Any]:
    """A stream that outlives the block: it is booked when it ends, is closed or is dropped."""
    with guard.call(user="ann", model="gpt-4o", messages=MESSAGES, max_tokens=200) as call:
        reply = client.chat.completions.create(messages=MESSAGES, stream=True, **call.params, **options)
        stream: Iterator[Any] = call.stream(reply)
        return stream


def claude(guard: Guard, client: anthropic.Anthropic) -> Iterator[Any]:
    """Anthropic's streams tell their usage by themselves."""
    with guard.call(user="ann", model="claude-sonnet-4", messages=MESSAGES, max_tokens=200) as call:
        stream: Iterator[Any] = call.stream(client.messages.create(messages=MESSAGES, stream=True, **call.params))
        return stream


def main() -> None:
    """Four streams, each with what it was booked at."""
    with (
        serve(Settings(input_tokens=400, output_tokens=150)) as fake,
        openai.OpenAI(base_url=fake.url, api_key="any") as client,
        anthropic.Anthropic(base_url=fake.anthropic_url, api_key="any") as anthropic_client,
        Guard("memory://", policy={"caps": [{"id": "monthly", "limit": 5}]}) as guard,
    ):

        def booked(what: str) -> None:
            entry = list(guard.entries())[-1]
            print(f"{what}: ${entry.cost} {', '.join(entry.flags) or 'as reported'}")

        list(story(guard, client, stream_options={"include_usage": True}))
        booked("whole, with usage")
        list(story(guard, client))
        booked("whole, without usage")
        stream = story(guard, client)
        list(islice(stream, 5))
        del stream
        booked("dropped half way")
        list(claude(guard, anthropic_client))
        booked("Anthropic")
        print(f"held at the end: ${guard.status(user='ann').caps['monthly'].held}")


if __name__ == "__main__":
    main()
