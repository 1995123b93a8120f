"""Rows of LiteLLM's list as rows of the book: every shape in which it writes a price."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from capguard.pricing import litellm_map
from capguard.pricing.book import PriceBook
from capguard.pricing.price import Price

M = 1_000_000


def book_of(**row: Any) -> PriceBook:
    from datetime import date

    dropped: Counter[str] = Counter()
    listed = litellm_map.parsed(json.dumps({"m": {"litellm_provider": "x", "mode": "chat", **row}}).encode())
    return PriceBook.of(
        dict(litellm_map.rows(listed, dropped)), as_of=date(2026, 1, 1), source="x", features=litellm_map.NAMES
    )


def price_of(**row: Any) -> Price:
    price = book_of(**row).find("m")
    assert price is not None
    return price


IN_OUT = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}


def test_plain():
    """Rates, limits, features, the day of its end."""
    price = price_of(
        **IN_OUT,
        cache_read_input_token_cost=1e-7,
        max_input_tokens=9,
        max_tokens=5,
        supports_vision=True,
        deprecation_date="2027-01-01",
    )
    assert (price.input, price.output, price.cache_read, price.cache_write) == (M, 2 * M, 100_000, M)
    assert (price.max_input, price.max_output, price.features, price.retires) == (9, 5, {"vision"}, "2027-01-01")


VARIANTS: list[tuple[str, dict[str, Any], tuple[int, str | None], tuple[int, int, int]]] = [
    ("base", {}, (9, None), (M, 2 * M, M)),
    ("an unknown tier", {}, (9, "batch"), (M, 2 * M, M)),
    (
        "half for batch",
        {"input_cost_per_token_batches": 5e-7, "output_cost_per_token_batches": 1e-6},
        (9, "batch"),
        (M // 2, M, M // 2),
    ),
    (
        "a tier that lists its input only",
        {"input_cost_per_token_priority": 2e-6},
        (9, "priority"),
        (2 * M, 2 * M, 2 * M),
    ),
    ("a long context", {"input_cost_per_token_above_200k_tokens": 2e-6}, (200_001, None), (2 * M, 2 * M, 2 * M)),
    ("just not", {"input_cost_per_token_above_200k_tokens": 2e-6}, (200_000, None), (M, 2 * M, M)),
    (
        "a tier in a long context, in proportion",
        {
            "input_cost_per_token_above_200k_tokens": 2e-6,
            "output_cost_per_token_above_200k_tokens": 3e-6,
            "input_cost_per_token_batches": 5e-7,
            "output_cost_per_token_batches": 1e-6,
        },
        (200_001, "batch"),
        (M, 3 * M // 2, M),
    ),
    (
        "a tier in a long context, as listed",
        {
            "input_cost_per_token_above_200k_tokens": 2e-6,
            "input_cost_per_token_priority": 2e-6,
            "input_cost_per_token_above_200k_tokens_priority": 7e-6,
        },
        (200_001, "priority"),
        (7 * M, 2 * M, 7 * M),
    ),
    (
        "sizes in a list",
        {
            "input_cost_per_token": None,
            "output_cost_per_token": None,
            "tiered_pricing": [
                {"range": [0, 1000.0], **IN_OUT},
                {"range": [1000.0, 2000.0], "input_cost_per_token": 3e-6, "output_cost_per_token": 4e-6},
            ],
        },
        (1001, None),
        (3 * M, 4 * M, 3 * M),
    ),
    (
        "the smallest of a list",
        {
            "input_cost_per_token": None,
            "output_cost_per_token": None,
            "tiered_pricing": [{"range": [0, 1000.0], **IN_OUT}],
        },
        (9, None),
        (M, 2 * M, M),
    ),
    ("off-peak hours are not believed", {"off_peak_pricing": {"input_cost_per_token": 5e-7}}, (9, None), (M, 2 * M, M)),
    (
        "a peak that is in the wrong place",
        {"off_peak_pricing": {"input_cost_per_token": 3e-6}},
        (9, None),
        (3 * M, 2 * M, 3 * M),
    ),
]


@pytest.mark.parametrize(("row", "call", "rates"), [each[1:] for each in VARIANTS], ids=[each[0] for each in VARIANTS])
def test_tiers_and_sizes(row: dict[str, Any], call: tuple[int, str | None], rates: tuple[int, int, int]):
    """Input, output and cache write of a call; what is not listed stands in proportion."""
    price = price_of(**{**IN_OUT, **row}).applicable(*call)
    assert (price.input, price.output, price.cache_write) == rates


FEES: list[tuple[str, dict[str, Any], dict[str, int]]] = [
    (
        "searches, the dearest context",
        {"search_context_cost_per_query": {"low": 0.01, "high": 0.02}},
        {"searches": 2 * 10**10},
    ),
    (
        "seconds, never in both directions",
        {"mode": "audio_transcription", "input_cost_per_second": 1e-4, "output_cost_per_second": 1e-4},
        {"seconds": 10**8},
    ),
    ("seconds of a chat model are reserved capacity", {"input_cost_per_second": 1}, {}),
    (
        "a video at its finest",
        {"mode": "video_generation", "output_cost_per_second": 0.1, "output_cost_per_second_1080p": 0.3},
        {"seconds": 3 * 10**11},
    ),
    ("an image", {"mode": "image_generation", "output_cost_per_image": 0.04}, {"images": 4 * 10**10}),
    ("an image that is billed by its tokens", {"output_cost_per_image": 0.04, "output_cost_per_image_token": 1e-5}, {}),
    ("characters", {"mode": "audio_speech", "input_cost_per_character": 15e-6}, {"characters": 15 * 10**6}),
    ("characters of a chat model are another way to count", {"input_cost_per_character": 15e-6}, {}),
    ("pages", {"mode": "ocr", "ocr_cost_per_page": 0.001}, {"pages": 10**9}),
    (
        "queries by their results",
        {
            "mode": "search",
            "tiered_pricing": [
                {"input_cost_per_query": 0.005, "max_results_range": [0, 25]},
                {"input_cost_per_query": 0.025, "max_results_range": [26, 100]},
            ],
        },
        {"queries": 25 * 10**9},
    ),
]


@pytest.mark.parametrize(("row", "fees"), [each[1:] for each in FEES], ids=[each[0] for each in FEES])
def test_fees(row: dict[str, Any], fees: dict[str, int]):
    """Per piece, in pico-dollars."""
    assert dict(price_of(**{**IN_OUT, **row}).fees) == fees


RARE = [
    ({"input_cost_per_audio_token": 1e-6}, {"audio_input": M}),
    ({"output_cost_per_reasoning_token": 2e-6}, {}),  # as any output
    ({"output_cost_per_reasoning_token": 4e-6}, {"reasoning": 4 * M}),
    ({"output_cost_per_image_token": 3e-5}, {"image_output": 30 * M}),
    ({"cache_creation_input_token_cost": 1.25e-6, "litellm_provider": "anthropic"}, {"cache_write_1h": 2 * M}),
    ({"cache_creation_input_token_cost": 1.25e-6}, {}),
]


@pytest.mark.parametrize(("row", "rare"), RARE)
def test_rare_tokens(row: dict[str, Any], rare: dict[str, int]):
    """Where they cost something else; an hour of Anthropic's cache costs twice the input, listed or not."""
    assert dict(price_of(**{**IN_OUT, **row}).rare) == rare


LEFT_OUT = [
    ({"input_cost_per_token": 0}, "a price of zero"),
    ({"output_cost_per_token": 0}, "a price of zero"),
    ({"output_cost_per_token": 7e-4}, "beyond belief"),
    ({"cache_read_input_token_cost": 2e-6}, "cache read above input"),
    ({"input_cost_per_token": -1}, "not readable"),
    ({"tiered_pricing": 5}, "not readable"),
]


@pytest.mark.parametrize(("row", "why"), LEFT_OUT)
def test_rows_that_are_left_out(row: dict[str, Any], why: str):
    """Unknown, never free; and counted."""
    dropped: Counter[str] = Counter()
    listed = {"m": {"litellm_provider": "x", "mode": "chat", **IN_OUT, **row}, "sample_spec": {"mode": "chat"}}
    assert list(litellm_map.rows(litellm_map.parsed(json.dumps(listed).encode()), dropped)) == []
    assert dropped == {why: 1}


def test_aliases_are_names_too():
    """Each with the same row."""
    assert {*book_of(**IN_OUT, aliases=["n"])} == {"m", "n"}
