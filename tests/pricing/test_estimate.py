"""What is held before a call, and what is expected of it."""

from __future__ import annotations

from typing import Any

import pytest

from capguard.pricing.book import bundled
from capguard.pricing.estimate import DEFAULT_OUTPUT, estimate
from capguard.pricing.price import Price
from capguard.pricing.tokens import count_text

HELLO = [{"role": "user", "content": "hello"}]


def price_of(model: str) -> Price:
    price = bundled().find(model)
    assert price is not None
    return price


OUTPUTS: list[tuple[str, dict[str, Any], int]] = [
    ("gpt-4o", {"max_tokens": 500}, 500),
    ("gpt-4o", {"max_tokens": 0}, 0),
    ("gpt-4o", {"max_tokens": 10**9}, 16_384),  # the model's own maximum
    ("gpt-4o", {}, DEFAULT_OUTPUT),
    ("gpt-4o", {"default_output": 100}, 100),
    ("gpt-4o", {"default_output": 10**6}, 16_384),
    ("gpt-4o", {"max_tokens": 500, "n": 3}, 1_500),
    ("gpt-4o", {"max_tokens": 10**9, "n": 2}, 32_768),
    ("text-embedding-3-small", {}, 0),
    ("text-embedding-3-small", {"max_tokens": 5}, 0),
]


@pytest.mark.parametrize(("model", "given", "output"), OUTPUTS)
def test_output(model: str, given: dict[str, Any], output: int) -> None:
    """The limit of the caller or the default, never above the model's maximum, times n; none for embeddings."""
    got = estimate(price_of(model), model, messages=HELLO, **given)
    assert got.held.output_tokens == got.expected.output_tokens == output


def test_every_prompt_of_a_list_gets_a_reply() -> None:
    """Three prompts, three outputs."""
    got = estimate(price_of("gpt-4o"), "gpt-4o", prompt=["a", "b", "c"], max_tokens=10)
    assert got.held.output_tokens == 30


def test_input_is_held_at_its_bound_and_expected_as_counted() -> None:
    """Claude is counted by a factor: the bound is above the expectation."""
    text = "The quick brown fox jumps over the lazy dog. " * 20
    count = count_text(text, "claude-sonnet-4-5")
    got = estimate(price_of("claude-sonnet-4-5"), "claude-sonnet-4-5", prompt=text)
    assert got.held.input_tokens == count.upper > got.expected.input_tokens == count.tokens
    assert (got.how, got.held.model) == ("factor", "claude-sonnet-4-5")


def test_held_at_the_dearest_rate() -> None:
    """What goes into Anthropic's cache costs a quarter more; the hold covers it, the expectation does not."""
    price = price_of("claude-sonnet-4-5")
    got = estimate(price, "claude-sonnet-4-5", messages=HELLO, max_tokens=0)
    assert price.cost(got.held) == got.held.input_tokens * price.dearest_input // 1000
    assert price.cost(got.expected) == got.expected.input_tokens * price.input // 1000
    plain = estimate(price_of("gpt-4o"), "gpt-4o", messages=HELLO)
    assert plain.held.cache_write_tokens == 0


def test_output_is_held_as_reasoning_where_that_is_dearer() -> None:
    """Some models charge thoughts apart: at most, all of the output is that."""
    price = Price.of("m", input=0, output=2_000, rare={"reasoning": 5_000})
    got = estimate(price, "m", messages=HELLO, max_tokens=100)
    assert (price.cost(got.held), price.cost(got.expected)) == (500, 200)
    cheaper = Price.of("m", input=0, output=2_000, rare={"reasoning": 1_000})
    assert cheaper.cost(estimate(cheaper, "m", messages=HELLO, max_tokens=100).held) == 200


PIECES = [
    ("image_generation", "images", {"prompt": "x", "n": 3}, 3),
    ("rerank", "queries", {"input": "x"}, 1),
    ("audio_speech", "characters", {"input": "hello"}, 5),
    ("audio_transcription", "seconds", {"input": "x"}, 600),
    ("chat", "searches", {"messages": HELLO, "tools": [{"type": "web_search_20250305", "max_uses": 2}]}, 2),
    ("chat", "searches", {"messages": HELLO, "tools": [{"type": "web_search_preview"}]}, 5),
    ("chat", "searches", {"messages": HELLO, "tools": [{"type": "function"}]}, 0),
    ("chat", "images", {"messages": HELLO}, 0),
]


@pytest.mark.parametrize(("mode", "piece", "given", "count"), PIECES)
def test_pieces_that_have_a_fee_are_held(mode: str, piece: str, given: dict[str, Any], count: int) -> None:
    """As far as the call says how many; a stated number where it does not."""
    price = Price.of("m", input=0, output=0, mode=mode, fees={piece: 1_000})
    got = estimate(price, "m", **given)
    assert price.cost(got.held) == price.cost(got.expected) == count
    assert dict(got.held.quantities) == ({piece: count} if count else {})


def test_a_ceiling_price_without_output_is_an_embedding_only_for_input() -> None:
    """A price that bills no output has none for `input=`; a free price says nothing about it."""
    paid = Price.of("m", input=5, output=0, origin="policy")
    free = Price.of("m", input=0, output=0, origin="free")
    assert estimate(paid, "m", input="x", max_tokens=9).held.output_tokens == 0
    assert estimate(free, "m", input="x", max_tokens=9).held.output_tokens == 9
    assert estimate(paid, "m", messages=HELLO, max_tokens=9).held.output_tokens == 9


def test_a_hostile_limit_is_held_not_raised() -> None:
    """Without a known maximum a huge limit is clamped to what the ledger counts; the caps refuse it as too big."""
    ceiling = Price.of("m", input=5, output=5, origin="ceiling")
    got = estimate(ceiling, "m", messages=HELLO, max_tokens=2**53 - 1, n=100)
    assert got.held.output_tokens == 2**53 - 1


REFUSED = [
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": 2**53}, "max_tokens"),
    ({"n": 0}, "n: 0"),
    ({"n": "2"}, "n: '2'"),
    ({"default_output": -5}, "default_output"),
]


@pytest.mark.parametrize(("given", "named"), REFUSED)
def test_refuses_bad_limits(given: dict[str, Any], named: str) -> None:
    """What is no count raises ValueError that names it."""
    with pytest.raises(ValueError, match=named):
        estimate(price_of("gpt-4o"), "gpt-4o", messages=HELLO, **given)
