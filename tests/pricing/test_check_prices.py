"""The check against another list: what differs is printed, and the higher price is written down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from capguard.pricing.book import bundled

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import check_prices  # noqa: E402

RULES = [
    ({"equals": "m-1"}, True),
    ({"starts_with": "m"}, True),
    ({"ends_with": "2"}, False),
    ({"contains": "-"}, True),
    ({"regex": "^m-[0-9]$"}, True),
    ({"or": [{"equals": "x"}, {"equals": "m-1"}]}, True),
    ({"and": [{"starts_with": "m"}, {"ends_with": "2"}]}, False),
]


@pytest.mark.parametrize(("rule", "holds"), RULES)
def test_their_rules_for_names(rule: dict, holds: bool):
    """As genai-prices writes them."""
    assert check_prices.matches(rule, "m-1") == holds


PRICES = [
    ({"input_mtok": 1, "output_mtok": "2.5"}, {"input": 1_000_000, "output": 2_500_000}),
    ({"input_mtok": {"base": 1, "tiers": [{"start": 200000, "price": 9}]}}, {"input": 1_000_000}),
    (
        [{"prices": {"input_mtok": 10}}, {"constraint": {"start_date": "2026-01-01"}, "prices": {"input_mtok": 2}}],
        {"input": 2_000_000},
    ),
    (
        [{"prices": {"input_mtok": 2}}, {"constraint": {"start_date": "2099-01-01"}, "prices": {"input_mtok": 9}}],
        {"input": 2_000_000},
    ),
    (
        [{"prices": {"input_mtok": 1}}, {"constraint": {"start_time": "00:30:00Z"}, "prices": {"input_mtok": 2}}],
        {"input": 2_000_000},
    ),
]


@pytest.mark.parametrize(("prices", "rates"), PRICES)
def test_their_prices_of_a_day(prices: object, rates: dict):
    """The last that holds, at the dearest hour."""
    from datetime import date

    assert check_prices.rates_of(prices, date(2026, 11, 22)) == rates


def test_what_differs_is_printed(tmp_path: Path):
    """gpt-4o dearer there, gpt-4.1 the same, o3 cheaper there."""
    models = [
        {"id": "a", "match": {"equals": "gpt-4o"}, "prices": {"input_mtok": 3, "output_mtok": 10}},
        {"id": "b", "match": {"equals": "gpt-4.1"}, "prices": {"input_mtok": 2, "output_mtok": 8}},
        {"id": "c", "match": {"equals": "o3"}, "prices": {"input_mtok": 1, "output_mtok": 8}},
    ]
    data = tmp_path / "data.json"
    data.write_text(json.dumps([{"id": "openai", "models": models}]))
    command = [sys.executable, str(ROOT / "scripts/check_prices.py"), str(data), "--on", "2026-11-22"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["gpt-4o", "o3", "3"]
    assert "input 2.5 | 3  raised" in done.stdout
    assert "3 models compared, 1 to be raised" in done.stdout


def test_the_higher_price_is_in_the_book():
    """Everything that is listed as raised, at least as high."""
    raised = json.loads((ROOT / "scripts/raised_prices.json").read_bytes())
    assert "genai-prices" in raised["remark"]
    assert len(raised["models"]) > 20
    for name, rates in raised["models"].items():
        price = bundled().price(name)
        assert price is not None
        assert all(
            getattr(price, kind) >= min(rate, price.input if "cache" in kind else rate) for kind, rate in rates.items()
        )
