"""What went wrong in systems like this one, as far as prices and tokens go: public threads, by number."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from capguard import CapExceeded, Guard, PolicyError, UnknownModel, Usage
from capguard.pricing.prompt import Prompt, count_input
from capguard.pricing.responses import read_usage
from tests.kit import last

HELLO = [{"role": "user", "content": "hello"}]


def guard_of(limit: object = 5, **policy: Any) -> Guard:
    return Guard("memory://", policy={"caps": [{"id": "monthly", "limit": str(limit)}], **policy})


def test_11_a_cost_that_cannot_be_estimated_is_held_all_the_same():
    """litellm #35524: no hold, unbounded. Here: the ceiling price."""
    guard = guard_of(1)
    assert guard.reserve(user="u1", model="who-knows", messages=HELLO).held > 0


@pytest.mark.parametrize("limit", [{}, {"max_tokens": 10**9}])
def test_12_13_no_limit_and_an_absurd_one_leave_room(limit: dict):
    """litellm PR #27509, #38647: a $2,000 cap was blocked at $0.144 spent, a $25 one at nothing."""
    guard = guard_of(25)
    for _ in range(2):
        guard.reserve(user="u1", model="claude-opus-4", messages=HELLO, **limit)
    assert guard.status(user="u1").caps["monthly"].remaining > 0


def test_14_long_contexts_and_priority_are_held_at_their_price():
    """litellm PR #40002: $0.60 passed a $0.45 cap."""
    guard = guard_of("0.45")
    usage = Usage(input_tokens=100_000, service="priority")
    with pytest.raises(CapExceeded):
        guard.reserve(user="u1", model="gpt-5.4", usage=usage)  # 100,000 x 5.00 = $0.50
    with pytest.raises(CapExceeded):
        guard.reserve(user="u1", model="gpt-5.4", usage=Usage(input_tokens=280_000))  # x 5.00, not 2.50
    guard.reserve(user="u1", model="gpt-5.4", usage=Usage(input_tokens=100_000))


CACHED = [
    (
        {"prompt_tokens": 1000, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 900}},
        "gpt-4o",
        1_375_000,
    ),
    ({"input_tokens": 100, "output_tokens": 0, "cache_read_input_tokens": 900}, "claude-sonnet-4-5", 570_000),
]


@pytest.mark.parametrize(("report", "model", "nano"), CACHED)
def test_32_cached_tokens_are_charged_once(report: dict, model: str, nano: int):
    """litellm #11789, langfuse #5568: counted twice, because providers disagree what the input includes."""
    guard = guard_of()
    usage = read_usage({"model": model, "usage": report})
    assert usage is not None
    assert guard.settle(guard.reserve(user="u1", model=model, messages=HELLO), usage=usage).cost * 10**9 == nano


@pytest.mark.parametrize("model", ["claude-foo-9", "gpt-99", "gpt4o"])
def test_35_36_51_an_unknown_model_is_neither_free_nor_another(model: str):
    """litellm PR #30715: $1.16 instead of $185; headroom #3732: priced as gpt-4o; LangChain #6193: nothing."""
    assert guard_of().reserve(user="u1", model=model, messages=HELLO, max_tokens=1000).held > Decimal("0.07")
    with pytest.raises(UnknownModel):
        guard_of(failure={"unknown_model": "deny"}).reserve(user="u1", model=model, messages=HELLO)


def test_35_retired_models_cost_what_they_cost():
    """LiteLLM returns $0.00 for claude-opus-4, without an error."""
    usage = Usage(input_tokens=1_000_000)
    guard = guard_of(100)
    assert guard.settle(guard.reserve(user="u1", model="claude-opus-4", messages=HELLO), usage=usage).cost == 15


def test_37_39_free_is_what_is_declared_free():
    """litellm #25874: a priced model skipped the check; #10973: a spent cap blocked free ones."""
    guard = guard_of(0, prices={"local": {"free": True}, "own": {"input": 1, "output": 1}})
    guard.reserve(user="u1", model="local", messages=HELLO)
    with pytest.raises(CapExceeded):
        guard.reserve(user="u1", model="own", messages=HELLO)


@pytest.mark.parametrize("price", ["0.0000000025", "2500000"])
def test_40_a_price_per_token_is_refused(price: str):
    """litellm #20615: a price per million was taken as one per token, and everything was blocked."""
    with pytest.raises(PolicyError, match="per million tokens"):
        guard_of(prices={"own": {"input": price, "output": "1"}})


def test_52_what_is_partly_unpriced_says_so():
    """pydantic-ai #7133: under-enforced without a sign."""
    guard = guard_of()
    made = guard.reserve(user="u1", model="gpt-4o", messages=HELLO)
    guard.settle(made, usage=Usage(input_tokens=10, audio_input_tokens=5))
    assert last(guard).flags == ("partly_priced",)


def test_55_tools_images_and_system_count():
    """tiktoken #474: 47,000 tokens counted, 140,000 billed."""
    tool = {"type": "function", "function": {"name": "look", "description": "x " * 1000}}
    plain = count_input("gpt-4o", messages=HELLO).tokens
    assert count_input("gpt-4o", messages=HELLO, tools=[tool]).tokens > plain + 1000
    assert count_input("gpt-4o", messages=HELLO, system="x " * 1000).tokens > plain + 1000


EVIL = [" " * 1_100_000, "a" * 1_000_000, "<|endoftext|>" * 1000, "\ud83d" * 1000]


@pytest.mark.parametrize("text", EVIL, ids=["blanks", "one letter", "special tokens", "half a pair"])
def test_56_57_no_text_is_quadratic_panics_or_raises(text: str):
    """tiktoken #195, #245: repeated characters, a panic that no `except Exception` catches, reserved words."""
    prompt = Prompt(messages=[{"role": "user", "content": text}])
    assert 0 < prompt.count("gpt-4o").upper <= prompt.bound("gpt-4o").upper
