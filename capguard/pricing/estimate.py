"""What a call will use, before it is made: a bound to hold and an expectation to book where nothing else is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from capguard.ledger.money import MAX_AMOUNT
from capguard.pricing.book import Price
from capguard.pricing.messages import replies
from capguard.pricing.tokens import How, count_input
from capguard.pricing.usage import Usage

DEFAULT_OUTPUT = 4_096
"""Tokens that are held for a reply whose length nobody limited and nothing is known about."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """`held` is a bound as far as known, `expected` the likely usage; `how` the input was counted."""

    held: Usage
    expected: Usage
    how: How


def estimate(
    price: Price,
    model: str,
    *,
    messages: Any = None,
    prompt: Any = None,
    input: Any = None,
    tools: Any = None,
    system: Any = None,
    max_tokens: int | None = None,
    n: int | None = None,
    default_output: int = DEFAULT_OUTPUT,
) -> Estimate:
    """The usage of a call that is about to be made.

    The output is `max_tokens`, or `default_output` where the caller set none; never more than the model's maximum,
    where that is known; times `n` and the number of prompts. Embeddings have none. What is held assumes that the input
    is written to a cache where that is dearer. Raises ValueError for a `max_tokens`, `n` or `default_output`
    that is not an int of 0 or more (`n`: 1 or more).
    """
    counted = count_input(model, messages=messages, prompt=prompt, input=input, tools=tools, system=system)
    choices = (1 if n is None else checked("n", n, least=1)) * replies(messages=messages, prompt=prompt)
    output = 0
    if not _embeds(price, input):
        output = min(output_tokens(price, max_tokens, default_output) * choices, MAX_AMOUNT)
    writes = counted.upper if price.cache_write > price.input else 0
    return Estimate(
        held=Usage(model=model, input_tokens=counted.upper, cache_write_tokens=writes, output_tokens=output),
        expected=Usage(model=model, input_tokens=counted.tokens, output_tokens=output),
        how=counted.how,
    )


def output_tokens(price: Price, max_tokens: int | None, default_output: int) -> int:
    """The output of one choice that has to be held, in tokens."""
    wanted = checked("default_output", default_output) if max_tokens is None else checked("max_tokens", max_tokens)
    return wanted if price.max_output is None else min(wanted, price.max_output)


def _embeds(price: Price, given: Any) -> bool:
    """Embeddings have no output. A free price has no rates to tell by."""
    return price.mode == "embedding" or (given is not None and price.input > 0 and not price.output)


def checked(name: str, value: object, least: int = 0) -> int:
    """`value` if it is an int from `least` to 2^53-1; else ValueError."""
    if type(value) is not int or not least <= value <= MAX_AMOUNT:
        raise ValueError(f"{name}: {value!r:.60} is refused; allowed: an int from {least} to 2^53-1")
    return value
