"""Who calls when, and how much: a slice of the real trace, its users and their plans drawn by a seed."""

from __future__ import annotations

import random
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

from capguard.pricing.book import bundled
from capguard.pricing.price import Price
from capguard.pricing.usage import Usage
from capguard.testing.trace import load_trace, users

MODEL = "gpt-4o"
"""What every user asks for."""

MAX_TOKENS = 1000
"""The output limit of every call; no reply in the trace is longer."""

ATTRIBUTION = (
    "Traffic: Azure Public Dataset, AzureLLMInferenceDataset2023, by Microsoft, CC-BY 4.0; "
    "users and plans are drawn, texts made up to length."
)

PLANS = ("free", "pro", "team")
_OF_TEN_USERS = ("free",) * 6 + ("pro",) * 3 + ("team",)
_REQUESTS_PER_SECOND = 100
_REPLAYED_WITHIN = 0.65  # of the demo's seconds: the rest is for calls in flight and for slow machines


class Ask(NamedTuple):
    """One call to be made, `after_s` seconds after the start, with the tokens that it had in the trace."""

    id: str
    after_s: float
    user: str
    plan: str
    input_tokens: int
    output_tokens: int

    def cost(self) -> int:
        """What it costs where no cap steers it, in nano-dollars."""
        return asked_price().cost(Usage(input_tokens=self.input_tokens, output_tokens=self.output_tokens))


def asks(seconds: int, user_count: int, seed: int) -> list[Ask]:
    """The first 100 requests of the trace per second, its minutes pressed into `seconds`.

    The trace has 3,000. Raises ValueError for a user count below 1.
    """
    trace = load_trace(seconds * _REQUESTS_PER_SECOND)
    pace = seconds * _REPLAYED_WITHIN / trace[-1].arrival_s
    plans = plans_of(user_count, seed)
    return [
        Ask(f"demo-{at:04}", each.arrival_s * pace, f"user-{who:03}", plans[who], each.input_tokens, each.output_tokens)
        for at, (each, who) in enumerate(zip(trace, users(seed, user_count, trace), strict=True))
    ]


def plans_of(user_count: int, seed: int) -> list[str]:
    """Of any ten users in order of traffic six are free, three pro, one team; the seed says which."""
    draw = random.Random(seed)  # noqa: S311  a reproducible draw, not a secret
    tens = [draw.sample(_OF_TEN_USERS, k=10) for _ in range(0, user_count, 10)]
    return [plan for ten in tens for plan in ten][:user_count]


def asked_price() -> Price:
    """The price of the model that is asked for, from capguard's own book."""
    price = bundled().find(MODEL)
    assert price is not None
    return price


def policy_file() -> Path:
    """The demo's policy, as a file that a reader may open."""
    with as_file(files(__package__) / "policy.toml") as path:
        return path
