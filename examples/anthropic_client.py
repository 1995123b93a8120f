"""Anthropic's client under caps, with a stream that ends when its money does.

    python examples/anthropic_client.py

It runs against a fake provider on loopback. With the real one, leave `serve` and `base_url` out.
"""

from __future__ import annotations

from typing import Any

from anthropic import Anthropic

from capguard import CapExceeded, Guard
from capguard.integrations.anthropic import cap
from capguard.testing.provider import Settings, serve

MESSAGES: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
ASK: dict[str, Any] = {"model": "claude-sonnet-4-6", "messages": MESSAGES, "max_tokens": 300}


def main() -> None:
    """One client, bound to one user after another."""
    policy = {"caps": [{"id": "monthly", "limit": 0.01}]}
    with (
        serve(Settings(input_tokens=200, output_tokens=250)) as fake,
        Anthropic(base_url=fake.anthropic_url, api_key="any") as plain,
        Guard("memory://", policy=policy) as guard,
    ):
        everybodys = cap(plain, guard)
        ann = cap(everybodys, user="ann")  # some 100 us: one for each request is fine
        print(f"ann: {ann.messages.create(**ASK).usage.output_tokens} tokens")
        with ann.messages.stream(**ASK) as stream:
            print(f"ann: {len(stream.get_final_text().split())} words streamed")
        try:
            ann.messages.create(**ASK)
        except CapExceeded as refused:
            print(f"ann is refused by {refused.cap.id}: {refused.reason}")

        fake.provider.set(output_tokens=2000)  # a provider that does not stop at the limit
        bob = cap(everybodys, user="bob", on_stream_exceeded="cut")
        with bob.messages.stream(**ASK) as stream:
            words = sum(len(text.split()) for text in stream.text_stream)
        print(f"bob: cut, {words < 1000}: {', '.join(list(guard.entries())[-1].flags)}")


if __name__ == "__main__":
    main()
