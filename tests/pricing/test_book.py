"""The price book: published prices, hand computed; names as people write them; never a price of zero."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
import tracemalloc
from datetime import date
from importlib.resources import files

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
]


@pytest.mark.parametrize(("model", "nano"), PUBLISHED)
def test_costs_what_is_published(model: str, nano: int) -> None:
    """A million input and a hundred thousand output tokens cost the list price."""
    price = bundled().find(model)
    assert price is not None
    output = 0 if price.mode == "embedding" else 100_000
    assert price.cost(Usage(input_tokens=1_000_000, output_tokens=output)) == nano


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
