"""Check the price snapshot against genai-prices (https://github.com/pydantic/genai-prices, MIT): run by hand.

    python scripts/check_prices.py genai-prices/prices/data.json [--write]

genai_prices_json.py writes such a file from an installed genai-prices, which is newer than its repository's.

Prints every model whose base price differs by more than 0.1%, with both. With --write, scripts/raised_prices.json lists
those where genai-prices is dearer, and compile_prices.py takes the higher price from there. A price that is below
another list's is a risk; one that is above it only holds and books too much until somebody looks.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "scripts"))

from compile_prices import RAISED, compiled  # noqa: E402

from capguard.ledger.money import pico_per_unit  # noqa: E402

MILLION = 10**6
KINDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}
PLACES = {"input": 2, "output": 3, "cache_read": 4, "cache_write": 5}
MODES = {"chat", "completion", "responses", "embedding"}
HOSTS = {
    "openai": ("openai", "text-completion-openai"),
    "anthropic": ("anthropic",),
    "google": ("gemini", "vertex_ai-language-models"),
    "mistral": ("mistral",),
    "deepseek": ("deepseek",),
    "x-ai": ("xai",),
    "cohere": ("cohere", "cohere_chat"),
    "groq": ("groq",),
    "azure": ("azure",),
    "aws": ("bedrock", "bedrock_converse"),
    "perplexity": ("perplexity",),
    "together": ("together_ai",),
    "fireworks": ("fireworks_ai",),
    "cerebras": ("cerebras",),
    "moonshotai": ("moonshot",),
    "voyageai": ("voyage",),
    "minimax": ("minimax",),
    "zhipuai": ("zai",),
}
"""Which makers of our rows each of their providers is."""

Rates = dict[str, int]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path, help="genai-prices' prices/data.json")
    options.add_argument("--on", type=date.fromisoformat, default=date.today(), help="the day to compare")  # noqa: DTZ011
    options.add_argument("--write", action="store_true", help="write scripts/raised_prices.json")
    chosen = options.parse_args()
    rows = compiled(Counter())  # before any was raised
    theirs = json.loads(chosen.data.read_bytes(), parse_float=Decimal)
    compared, raised = 0, {}
    for name, row in rows.items():
        if row[1] not in MODES:
            continue
        found = priced(theirs, name, row[0], chosen.on)
        if found is None:
            continue
        compared += 1
        if differing := differences(row, found):
            higher = {kind: rate for kind, rate in differing.items() if rate > row[PLACES[kind]]}
            print(f"{name:60} {shown(row, differing)}{'  raised' if higher else ''}")
            if higher:
                raised[name] = higher
    print(f"{compared} models compared, {len(raised)} to be raised")
    if chosen.write:
        write(raised, chosen.on)


def priced(theirs: list[dict[str, Any]], name: str, maker: str, day: date) -> Rates | None:
    """Their base rates for one of our models, None where they do not list it."""
    for provider in theirs:
        if maker in HOSTS.get(provider["id"], ()):
            for model in provider["models"]:
                if matches(model["match"], bare_of(name)):
                    return rates_of(model["prices"], day)
    return None


def bare_of(name: str) -> str:
    return name.partition("/")[2] if "/" in name else name


def matches(rule: Mapping[str, Any], name: str) -> bool:
    """Their rule for names: one key, or lists of rules."""
    (kind, value), *_ = rule.items()
    if kind == "or":
        return any(matches(each, name) for each in value)
    if kind == "and":
        return all(matches(each, name) for each in value)
    return TESTS[kind](name.lower(), str(value))


TESTS: dict[str, Callable[[str, str], bool]] = {
    "equals": lambda name, value: name == value,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "contains": lambda name, value: value in name,
    "regex": lambda name, value: re.search(value, name) is not None,
}


def rates_of(prices: Any, day: date) -> Rates:
    """The prices that hold on a day, at the dearest hour of it; of sizes the smallest."""
    steps = [{"prices": prices}] if isinstance(prices, dict) else prices
    holding = [each for each in steps if each.get("constraint", {}).get("start_date", "") <= day.isoformat()]
    hourly = [each["prices"] for each in holding if "start_time" in each.get("constraint", {})]
    dated = [each["prices"] for each in holding if "start_time" not in each.get("constraint", {})][-1:]
    found: Rates = {}
    for each in (*dated, *hourly):
        for kind, rate in listed(each):
            found[kind] = max(rate, found.get(kind, 0))
    return found


def listed(prices: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for kind, key in KINDS.items():
        price = prices.get(key)
        base = price.get("base") if isinstance(price, dict) else price
        if base:
            yield kind, pico_per_unit(base, MILLION)


def differences(row: list[Any], found: Rates) -> Rates:
    """Their rates that are more than 0.1% away from ours. A cache rate that is the input rate was not listed by us."""
    ours = {kind: row[place] for kind, place in PLACES.items()}
    if row[1] == "embedding":
        found = {kind: rate for kind, rate in found.items() if kind != "output"}
    unsaid = {kind for kind in ("cache_read", "cache_write") if ours[kind] == ours["input"]}
    return {
        kind: rate
        for kind, rate in found.items()
        if kind not in unsaid and abs(rate - ours[kind]) * 1000 > max(ours[kind], 1)
    }


def shown(row: list[Any], differing: Rates) -> str:
    sides = (f"{kind} {row[PLACES[kind]] / MILLION:g} | {rate / MILLION:g}" for kind, rate in differing.items())
    return "; ".join(sides)


def write(raised: Mapping[str, Rates], day: date) -> None:
    remark = (
        "Models that genai-prices lists dearer than LiteLLM, the higher rates in pico-dollars per token: the higher"
        f" price wins. Written by scripts/check_prices.py on {day}; genai-prices is MIT, Copyright 2025 Pydantic."
    )
    RAISED.write_text(json.dumps({"remark": remark, "models": raised}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
