"""Plans: a free plan that blocks, a paid one that warns, goes on with a cheaper model and blocks last.

    python examples/plans.py

The policy stands in policy.toml beside this file.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from openai import OpenAI

from capguard import CapExceeded, Guard
from capguard.testing.provider import Settings, serve

POLICY = Path(__file__).with_name("policy.toml")
MESSAGES: list[Any] = [{"role": "user", "content": "Summarise this long report."}]


def ask(guard: Guard, client: OpenAI, user: str, plan: str | None) -> str:
    """One call; gives the model that served, or why there was none."""
    try:
        with guard.call(user=user, plan=plan, model="gpt-4o", messages=MESSAGES, max_tokens=300) as call:
            reply = client.chat.completions.create(messages=MESSAGES, **call.params)
            call.settle(reply)
            return call.model or ""
    except CapExceeded as refused:
        return f"refused by {refused.cap.id} ({refused.reason})"


def main() -> None:
    """Each user asks thirty times."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    with (
        serve(Settings(input_tokens=500, output_tokens=300)) as fake,
        OpenAI(base_url=fake.url, api_key="any") as client,
        Guard("memory://", policy=POLICY) as guard,
    ):
        for user, plan in (("bob", None), ("ann", None), ("eve", "pro")):
            answers = [ask(guard, client, user, plan) for _ in range(30)]
            counted = {answer: answers.count(answer) for answer in dict.fromkeys(answers)}
            status = guard.status(user=user, plan=plan)
            print(f"{user} on {status.plan}:", ", ".join(f"{count} x {answer}" for answer, count in counted.items()))
            for cap in status.caps:
                print(f"  {cap.id}: ${cap.settled} of ${cap.limit}, {cap.action}")


if __name__ == "__main__":
    main()
