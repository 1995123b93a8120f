"""The first call under a cap: reserved before the provider is called, booked by what it answered, refused beyond.

    python examples/first_call.py

It runs against a fake provider on loopback, so it needs no key and costs nothing. With the real one, leave `serve`
out and make the client as you always do.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from openai import OpenAI

from capguard import CapExceeded, Guard
from capguard.testing.provider import Settings, serve

MESSAGES: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]


def ask(guard: Guard, client: OpenAI, user: str) -> str:
    """One answer, if the user's cap has room for it."""
    with guard.call(user=user, model="gpt-4o", messages=MESSAGES, max_tokens=300) as call:
        reply = client.chat.completions.create(messages=MESSAGES, **call.params)
        call.settle(reply)
    return reply.choices[0].message.content or ""


def main() -> None:
    """Ask until the cap refuses."""
    policy = {"caps": [{"id": "monthly", "limit": 0.01}]}  # dollars, per user, per calendar month
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(Settings(input_tokens=200, output_tokens=250)) as fake,
        OpenAI(base_url=fake.url, api_key="any") as client,
        Guard(f"sqlite:///{Path(folder)}/capguard.db", policy=policy) as guard,
    ):
        try:
            for number in range(1, 100):
                ask(guard, client, "ann")
                cap = guard.status(user="ann").caps["monthly"]
                print(f"answer {number}: ann has spent ${cap.settled} of ${cap.limit}")
        except CapExceeded as refused:
            print(f"refused: {refused}")
        print(f"{fake.provider.calls} calls reached the provider; {len(guard.verify().differences)} differences")


if __name__ == "__main__":
    main()
