"""The price book: published prices, hand computed; names as people write them; never a price of zero."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from datetime import date
from importlib.resources import files
from typing import Any

import pytest

from capguard.pricing.book import PriceBook, bundled, canonical
from capguard.pricing.price import Price
from capguard.pricing.usage import Usage

# 1,000,000 input and 100,000 output tokens at the published list prices, in nano-dollars, computed by hand.
PUBLISHED = [
    ("gpt-4o", 3_500_000_000),  # 2.50 + 10.00 / 10
    ("gpt-4o-2024-05-13", 6_500_000_000),  # 5 + 15 / 10
    ("gpt-4o-mini", 210_000_000),  # 0.15 + 0.60 / 10
    ("gpt-4.1", 2_800_000_000),  # 2 + 8 / 10
    ("gpt-4.1-nano", 140_000_000),  # 0.10 + 0.40 / 10
    ("gpt-5", 2_250_000_000),  # 1.25 + 10 / 10
    ("gpt-5-mini", 450_000_000),  # 0.25 + 2 / 10
    ("gpt-4-turbo", 13_000_000_000),  # 10 + 30 / 10
    ("gpt-3.5-turbo", 650_000_000),  # 0.50 + 1.50 / 10
    ("o3", 2_800_000_000),  # 2 + 8 / 10
    ("o4-mini", 1_540_000_000),  # 1.10 + 4.40 / 10
    ("claude-sonnet-4-5", 4_500_000_000),  # 3 + 15 / 10
    ("claude-haiku-4-5", 1_500_000_000),  # 1 + 5 / 10
    ("claude-opus-4", 22_500_000_000),  # 15 + 75 / 10, retired
    ("claude-opus-4-20250514", 22_500_000_000),
    ("claude-sonnet-4", 4_500_000_000),  # 3 + 15 / 10, retired
    ("claude-3-5-haiku-20241022", 1_200_000_000),  # 0.80 + 4 / 10, retired
    ("gemini-2.5-flash", 550_000_000),  # 0.30 + 2.50 / 10
    ("gemini-2.0-flash", 140_000_000),  # 0.10 + 0.40 / 10, retired
    ("text-embedding-3-small", 20_000_000),  # 0.02
    ("text-embedding-3-large", 130_000_000),  # 0.13
    ("text-embedding-ada-002", 100_000_000),  # 0.10
    ("gpt-4", 36_000_000_000),  # 30 + 60 / 10
    ("gpt-4.1-mini", 560_000_000),  # 0.40 + 1.60 / 10
    ("gpt-5-nano", 90_000_000),  # 0.05 + 0.40 / 10
    ("o1", 21_000_000_000),  # 15 + 60 / 10
    ("o3-mini", 1_540_000_000),  # 1.10 + 4.40 / 10
    ("claude-opus-4-5", 7_500_000_000),  # 5 + 25 / 10
    ("claude-3-opus-20240229", 22_500_000_000),  # 15 + 75 / 10, retired
    ("claude-3-haiku-20240307", 375_000_000),  # 0.25 + 1.25 / 10, retired
    ("gemini/gemini-2.5-pro", 4_000_000_000),  # above 200k: 2.50 + 15 / 10
    ("gemini/gemini-2.5-flash-lite", 140_000_000),  # 0.10 + 0.40 / 10
    ("gemini-1.5-flash", 105_000_000),  # 0.075 + 0.30 / 10, retired
    ("mistral/mistral-large-2411", 2_600_000_000),  # 2 + 6 / 10, retired
    ("mistral/codestral-latest", 390_000_000),  # 0.30 + 0.90 / 10
    ("mistral/mistral-embed", 100_000_000),  # 0.10
    ("deepseek/deepseek-reasoner", 769_000_000),  # 0.55 + 2.19 / 10
    ("xai/grok-4", 4_500_000_000),  # 3 + 15 / 10, retired
    ("xai/grok-3-mini", 350_000_000),  # 0.30 + 0.50 / 10, retired
    ("command-r", 210_000_000),  # 0.15 + 0.60 / 10, retired
    ("command-a-03-2025", 3_500_000_000),  # 2.50 + 10 / 10
    ("command-r7b-12-2024", 52_500_000),  # 0.0375 + 0.15 / 10
    ("groq/llama-3.3-70b-versatile", 669_000_000),  # 0.59 + 0.79 / 10, retired
    ("groq/llama-3.1-8b-instant", 58_000_000),  # 0.05 + 0.08 / 10, retired
    ("amazon.nova-pro-v1:0", 1_120_000_000),  # 0.80 + 3.20 / 10
    ("amazon.nova-lite-v1:0", 84_000_000),  # 0.06 + 0.24 / 10
    ("meta.llama3-70b-instruct-v1:0", 3_000_000_000),  # 2.65 + 3.50 / 10
    ("azure/gpt-4o", 3_500_000_000),  # 2.50 + 10 / 10
    ("perplexity/sonar", 1_100_000_000),  # 1 + 1 / 10
    ("perplexity/sonar-pro", 4_500_000_000),  # 3 + 15 / 10
    ("together_ai/deepseek-ai/DeepSeek-R1", 3_700_000_000),  # 3 + 7 / 10, retired
    ("voyage/voyage-3", 60_000_000),  # 0.06
]


@pytest.mark.parametrize(("model", "nano"), PUBLISHED)
def test_costs_what_is_published(model: str, nano: int) -> None:
    """A million input and a hundred thousand output tokens cost the list price."""
    price = bundled().find(model)
    assert price is not None
    output = 0 if price.mode == "embedding" else 100_000
    assert price.cost(Usage(input_tokens=1_000_000, output_tokens=output)) == nano


FEES: list[tuple[str, dict[str, Any], int]] = [
    ("cached input", {"model": "gpt-4o", "input_tokens": 1000, "cache_read_tokens": 800}, 500_000 + 1_000_000),
    (
        "written for minutes",
        {"model": "claude-sonnet-4-5", "input_tokens": 1000, "cache_write_tokens": 1000},
        3_750_000,
    ),
    (
        "written for an hour",
        {"model": "claude-sonnet-4-5", "input_tokens": 9, "cache_write_tokens": 9, "cache_write_1h_tokens": 9},
        54_000,
    ),
    ("a long context", {"model": "gemini/gemini-2.5-pro", "input_tokens": 200_001}, 500_002_500),  # x 2.50
    ("not a long context", {"model": "gemini/gemini-2.5-pro", "input_tokens": 200_000}, 250_000_000),  # x 1.25
    ("output of a long context", {"model": "gpt-5.4", "input_tokens": 272_001, "output_tokens": 1}, 1_360_027_500),
    ("a list of sizes", {"model": "dashscope/qwen-flash", "input_tokens": 256_001}, 64_000_250),  # x 0.25
    ("batch", {"model": "gpt-4o", "input_tokens": 1000, "output_tokens": 1000, "service": "batch"}, 6_250_000),
    ("flex", {"model": "gpt-5", "input_tokens": 1000, "output_tokens": 1000, "service": "flex"}, 5_625_000),
    ("priority", {"model": "gpt-5", "input_tokens": 1000, "output_tokens": 1000, "service": "priority"}, 22_500_000),
    (
        "batch of a long context",
        {"model": "gemini/gemini-2.5-pro", "input_tokens": 300_000, "service": "batch"},
        375_000_000,
    ),
    (
        "batch of a context that is just not long",
        {"model": "gemini/gemini-2.5-pro", "input_tokens": 200_000, "service": "batch"},
        125_000_000,
    ),
    (
        "audio, both ways",
        {
            "model": "gpt-realtime",
            "input_tokens": 30,
            "audio_input_tokens": 10,
            "output_tokens": 20,
            "audio_output_tokens": 5,
        },
        20 * 4_000 + 10 * 32_000 + 15 * 16_000 + 5 * 64_000,
    ),
    (
        "images in and out",
        {
            "model": "gpt-image-1",
            "input_tokens": 30,
            "image_input_tokens": 10,
            "output_tokens": 50,
            "image_output_tokens": 50,
        },
        20 * 5_000 + 10 * 10_000 + 50 * 40_000,
    ),
    (
        "reasoning at a rate of its own",
        {"model": "perplexity/sonar-deep-research", "output_tokens": 100, "reasoning_tokens": 90},
        10 * 8_000 + 90 * 3_000,
    ),
    ("a web search", {"model": "claude-sonnet-4-5", "quantities": {"searches": 3}}, 30_000_000),  # 10 per thousand
    ("a request", {"model": "perplexity/pplx-7b-online", "output_tokens": 0}, 5_000_000),  # 5 per thousand
    ("an image", {"model": "amazon.titan-image-generator-v1", "quantities": {"images": 2}}, 16_000_000),
    ("a minute of sound", {"model": "whisper-1", "quantities": {"seconds": 60}}, 6_000_000),  # 0.006
    ("characters that are spoken", {"model": "tts-1", "quantities": {"characters": 1000}}, 15_000_000),  # 15 per M
    ("a page", {"model": "mistral/mistral-ocr-latest", "quantities": {"pages": 5}}, 20_000_000),  # 4 per thousand
    ("a rerank query", {"model": "rerank-v3.5", "quantities": {"queries": 1}}, 2_000_000),  # 2 per thousand
    ("an embedding", {"model": "text-embedding-3-small", "input_tokens": 1000}, 20_000),
]


@pytest.mark.parametrize(("used", "nano"), [each[1:] for each in FEES], ids=[each[0] for each in FEES])
def test_every_kind_of_fee(used: dict[str, Any], nano: int) -> None:
    """Published prices, computed by hand."""
    price = bundled().find(used["model"])
    assert price is not None
    assert price.cost(Usage(**used)) == nano
    assert not price.is_partial(Usage(**used))
    assert Price.from_dict(json.loads(json.dumps(price.to_dict()))).cost(Usage(**used)) == nano


PARTIAL: list[tuple[str, dict[str, Any], int]] = [
    ("audio where only text is priced", {"input_tokens": 10, "audio_input_tokens": 10}, 25_000),  # at the text's 2.50
    ("sound that was made", {"output_tokens": 10, "audio_output_tokens": 10}, 100_000),
    ("an image that was drawn", {"output_tokens": 10, "image_output_tokens": 10}, 100_000),
    ("a piece without a fee", {"input_tokens": 10, "quantities": {"searches": 1}}, 25_000),
    ("a tier without rates", {"input_tokens": 10, "service": "flex"}, 25_000),
]


@pytest.mark.parametrize(("used", "nano"), [each[1:] for each in PARTIAL], ids=[each[0] for each in PARTIAL])
def test_what_is_partly_priced_is_charged_as_text_and_said(used: dict[str, Any], nano: int) -> None:
    """gpt-4o lists no audio, no searches and no flex."""
    price = bundled().find("gpt-4o")
    assert price is not None
    assert price.cost(Usage(**used)) == nano
    assert price.is_partial(Usage(**used))
    assert not replace(price, origin="free").is_partial(Usage(**used))


def test_images_that_are_read_and_own_units_are_priced_in_full() -> None:
    """An image that a chat model reads costs as text does; what has no fee anywhere is a unit of one's own."""
    price = bundled().find("gpt-4o")
    assert price is not None
    assert not price.is_partial(Usage(input_tokens=9, image_input_tokens=9, quantities={"gpu_seconds": 3}))


def test_nearly_every_maker_has_prices() -> None:
    """At least eight providers stand behind the tables above."""
    providers = {bundled().find(model).provider for model, _ in PUBLISHED}
    assert len(providers) >= 12
    assert len(PUBLISHED) >= 40


DATED = {"2026-03-01": [4, 5], "2026-06-01": [6, 7]}


@pytest.mark.parametrize(
    ("day", "rate", "change"),
    [
        ("2026-02-28", 2, "2026-03-01"),
        ("2026-03-01", 4, "2026-06-01"),
        ("2026-06-01", 6, None),
        ("2030-01-01", 6, None),
    ],
)
def test_a_price_that_changes_on_a_day(day: str, rate: int, change: str | None) -> None:
    """From that day on, and the book says when the next change is."""
    row = ["x", "chat", 2, 3, 2, 2, 0, None, None, []]
    later = {"m": {day: ["x", "chat", *rates, 1, 9, 0, None, None, []] for day, rates in DATED.items()}}
    book = PriceBook.of({"m": row}, as_of=date(2026, 1, 1), source="test", later=later).on(date.fromisoformat(day))
    assert book.find("m").input == rate
    assert book.next_change() == (None if change is None else date.fromisoformat(change))


def test_cache_is_charged_once_and_at_its_own_rates() -> None:
    """Sonnet 4.5: 3 in, 0.30 cache read, 3.75 cache write, 15 out; reasoning is part of the output."""
    price = bundled().find("claude-sonnet-4-5")
    assert price is not None
    usage = Usage(
        input_tokens=1000, cache_read_tokens=600, cache_write_tokens=300, output_tokens=50, reasoning_tokens=20
    )
    assert price.cost(usage) == 100 * 3_000 + 600 * 300 + 300 * 3_750 + 50 * 15_000
    assert price.dearest_input == 3_750_000


def test_rounds_up_once_per_call() -> None:
    """Three rates of a pico-dollar make one nano-dollar together, not three."""
    price = Price.of("tiny", input=1, output=1, request=1)
    assert price.cost(Usage(input_tokens=1, output_tokens=1)) == 1
    assert price.cost(Usage(input_tokens=1000, output_tokens=0, requests=0)) == 1
    assert price.cost(Usage(requests=0)) == 0


def test_missing_cache_rates_are_the_input_rate() -> None:
    """What is not listed is billed as plain input."""
    price = Price.of("m", input=7, output=9)
    assert (price.cache_read, price.cache_write, price.dearest_input) == (7, 7, 7)


NAMES = [
    ("GPT-4O", "gpt-4o"),
    (" gpt-4o ", "gpt-4o"),
    ("openai/gpt-4o", "gpt-4o"),
    ("azure/gpt-4o", "azure/gpt-4o"),
    ("azure/eu/gpt-4o-2024-08-06", "azure/eu/gpt-4o-2024-08-06"),
    ("gpt-4o-2099-01-01", "gpt-4o"),
    ("openai/gpt-4o-2099-01-01", "gpt-4o"),
    ("models/gemini-2.5-flash", "gemini-2.5-flash"),
    ("vertex_ai/gemini-2.5-pro", "gemini-2.5-pro"),
    ("vertex_ai/claude-sonnet-4-5@20250929", "vertex_ai/claude-sonnet-4-5@20250929"),
    ("vertex_ai/claude-sonnet-4@20991231", "claude-sonnet-4"),
    ("anthropic/claude-sonnet-4-20250514", "claude-sonnet-4-20250514"),
    ("claude-sonnet-4-5-latest", "claude-sonnet-4-5"),
    (
        "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    ),
    (
        "bedrock/us-east-1/anthropic.claude-opus-4-20250514-v1:0",
        "anthropic.claude-opus-4-20250514-v1:0",
    ),
    ("bedrock/eu.anthropic.claude-sonnet-4-20991231-v9:0", "claude-sonnet-4"),
    ("ft:gpt-4o-mini-2024-07-18:acme::abc", "ft:gpt-4o-mini-2024-07-18"),
    ("ft:gpt-4o-mini:acme::abc", "ft:gpt-4o-mini-2024-07-18"),
    ("mistral-large-latest", "mistral/mistral-large-latest"),
    ("grok-4", "xai/grok-4"),
]


@pytest.mark.parametrize(("written", "listed"), NAMES)
def test_finds_a_model_however_it_is_written(written: str, listed: str) -> None:
    """Case, host, region, vendor, revision, fine-tuning suffix and date are all seen through."""
    price = bundled().find(written)
    assert price is not None
    assert price.model == listed


UNKNOWN = [
    "",
    "claude-foo-9",
    "gpt-99",
    "azure/my-deployment",
    "groq/deepseek-chat",  # another host's price is not the maker's
    "together_ai/gpt-4o",
    "ft:unknown:acme::abc",
    "gpt",
    "x" * 100_000,
    "fallback_generalizations",
    "sample_spec",
]


@pytest.mark.parametrize("name", UNKNOWN)
def test_never_invents_a_price(name: str) -> None:
    """An unknown model is unknown, not free and not somebody else's."""
    assert bundled().find(name) is None
    assert name not in bundled()


def test_tuned_models_cost_more_than_their_base() -> None:
    """`ft:gpt-4o` without a date takes the dearest dated price: 3.75 / 15, not 2.50 / 10."""
    price = bundled().find("ft:gpt-4o:org::id")
    assert price is not None
    assert (price.input, price.output) == (3_750_000, 15_000_000)


def book_of(**models: list) -> PriceBook:
    return PriceBook.of(models, as_of=date(2026, 1, 2), source="test", features=("tools", "vision"))


def test_the_dearest_dated_price_stands_for_an_undated_one() -> None:
    """Of several dated rows of a tuned model the dearest is taken, whatever their order."""
    rates = {"2024-01-01": 5, "2024-02-02": 9, "2024-03-03": 7}
    rows = {f"ft:m-{day}": ["x", "chat", 1, rate, 1, 1, 0, None, None, []] for day, rate in rates.items()}
    price = book_of(**rows).find("ft:m:acme::x")
    assert price is not None
    assert price.output == 9


def test_endless_names_are_not_remembered() -> None:
    """Names come from requests: what is longer than any model's name takes no memory."""
    book = book_of()
    assert book.find("x" * 100_000) is None
    assert book._known.cache_info().currsize == 0


def test_a_price_of_zero_is_unknown() -> None:
    """0/0 in a list means that somebody did not know; a better row behind it still counts."""
    zero = ["x", "chat", 0, 0, 0, 0, 0, None, None, []]
    paid = ["x", "chat", 5, 6, 5, 5, 0, None, None, []]
    assert book_of(free=zero).find("free") is None
    found = book_of(**{"openai/m": zero, "m": paid}).find("openai/m")
    assert found is not None
    assert found.model == "m"


def test_a_book_knows_its_origin() -> None:
    """Version, date, source, limits and features come with every price."""
    book = book_of(m=["acme", "chat", 5, 6, 1, 7, 2, 1000, 100, [1]])
    price = book.find("M")
    assert price == Price(
        model="m",
        input=5,
        output=6,
        cache_read=1,
        cache_write=7,
        request=2,
        max_input=1000,
        max_output=100,
        origin="snapshot",
        version=book.version,
        provider="acme",
        mode="chat",
        features=frozenset({"vision"}),
    )
    assert book.as_of == date(2026, 1, 2)
    assert len(book) == 1
    assert book.version != book_of(m=["acme", "chat", 5, 7, 1, 7, 2, 1000, 100, [1]]).version


def test_journal_entry_and_back() -> None:
    """The rates of an entry settle a call later, whatever the book says by then."""
    price = bundled().find("gpt-4o")
    assert price is not None
    entry = json.loads(json.dumps(price.to_dict()))
    again = Price.from_dict(entry)
    usage = Usage(input_tokens=123, cache_read_tokens=23, output_tokens=45)
    assert again.cost(usage) == price.cost(usage)
    assert (again.model, again.origin, again.version) == ("gpt-4o", "snapshot", bundled().version)
    with pytest.raises(KeyError, match="output"):
        Price.from_dict({name: value for name, value in entry.items() if name != "output"})


def test_closest_names_for_a_message() -> None:
    """A typing error is answered by names that exist."""
    assert "gpt-4o" in bundled().closest("gpt4o")
    assert bundled().closest("qqqqqqqqqqqqqqq") == []


def test_bundled_snapshot_is_canonical_and_says_where_it_is_from() -> None:
    """The version is the hash of the canonical JSON; source, licence and date stand inside."""
    data = gzip.decompress(files("capguard.pricing").joinpath("snapshot.json.gz").read_bytes())
    document = json.loads(data)
    assert canonical(document) == data
    assert bundled().version == hashlib.sha256(data).hexdigest()[:12]
    assert "LiteLLM" in bundled().source
    assert "MIT" in bundled().source
    assert bundled().as_of.isoformat() == document["as_of"]
    assert bundled() is bundled()


def test_every_row_can_be_believed() -> None:
    """Integers, no zero input, output only missing for embeddings, cache reads no dearer than input."""
    book = bundled()
    assert len(book) > 2500
    for name in book:
        _, mode, given, made, read, write, *_ = book.row(name)
        assert all(type(rate) is int for rate in (given, made, read, write)), name
        if mode in ("chat", "completion", "responses"):
            assert made > 0, name
            assert given > 0 or book.price(name).request > 0, name
        assert read <= given <= write, name
        assert given <= 150_000_000, name
        assert made <= 600_000_000, name


def test_the_book_fits_in_four_mebibytes() -> None:
    """Loading the snapshot keeps at most 4 MiB."""
    data = gzip.decompress(files("capguard.pricing").joinpath("snapshot.json.gz").read_bytes())
    tracemalloc.start()
    try:
        book = PriceBook(data)
        assert tracemalloc.get_traced_memory()[0] < 4 * 2**20
        assert book.find("gpt-4o") is not None
    finally:
        tracemalloc.stop()


def test_imports_nothing_heavy() -> None:
    """The book and the usage need neither litellm nor tiktoken."""
    code = (
        "import sys; import capguard.pricing.book as b, capguard.pricing.estimate; assert b.bundled().find('gpt-4o');"
        "print(sorted({'litellm', 'tiktoken', 'pydantic', 'openai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
