"""Compile capguard/pricing/snapshot.json.gz from the price list of the installed LiteLLM, and the retired models.

    python scripts/compile_prices.py --as-of 2026-11-22

LiteLLM's file is read as data (MIT, Copyright 2023 Berri AI); litellm itself is never imported. The same input gives
the same bytes. Rows that cannot be true are left out and named: a model left out is unknown, never free. Where
scripts/raised_prices.json, which check_prices.py writes, has a higher price, that one is taken.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections import Counter
from datetime import date
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from capguard.pricing import litellm_map, price_file  # noqa: E402
from capguard.pricing.book import packed  # noqa: E402

SNAPSHOT = ROOT / "capguard/pricing/snapshot.json.gz"
RETIRED = ROOT / "scripts/retired_prices.json"
RAISED = ROOT / "scripts/raised_prices.json"
MAKERS = {
    *("ai21", "anthropic", "assemblyai", "azure", "azure_ai", "azure_text", "bedrock", "bedrock_converse"),
    *("bedrock_mantle", "cerebras", "codestral", "cohere", "cohere_chat", "dashscope", "deepgram", "deepinfra"),
    *("deepseek", "elevenlabs", "fireworks_ai", "fireworks_ai-embedding-models", "gemini", "groq", "jina_ai"),
    *("meta_llama", "minimax", "mistral", "moonshot", "openai", "perplexity", "sambanova"),
    *("text-completion-codestral", "text-completion-openai", "together_ai", "vertex_ai", "voyage", "xai", "zai"),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--as-of", type=date.fromisoformat, required=True, help="the date of the prices")
    options.add_argument("--out", type=Path, default=SNAPSHOT, help="the file to write")
    chosen = options.parse_args()
    dropped: Counter[str] = Counter()
    models = compiled(dropped)
    raised = raise_prices(models)
    data = packed(
        models,
        {},
        {
            "as_of": chosen.as_of.isoformat(),
            "source": "LiteLLM model_prices_and_context_window.json",
            "source_version": version("litellm"),
            "licence": "MIT, Copyright 2023 Berri AI",
            "features": litellm_map.NAMES,
        },
    )
    chosen.out.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))
    size = chosen.out.stat().st_size
    print(f"{len(models)} models, {len(data):,} bytes, {size:,} packed; raised: {raised}; left out: {dict(dropped)}")


def compiled(dropped: Counter[str]) -> dict[str, list[Any]]:
    """Retired models, and over them the rows of LiteLLM's list that are kept."""
    path = litellm_map.path_of()
    if path is None:
        sys.exit("litellm is not installed; its price list is the source of the snapshot")
    retired, _ = price_file.rows(json.loads(RETIRED.read_bytes())["models"])
    return {**retired, **dict(litellm_map.rows(litellm_map.parsed(path.read_bytes()), dropped, known_maker))}


def known_maker(maker: str) -> bool:
    return maker in MAKERS or maker.startswith("vertex_ai-")


def raise_prices(models: dict[str, list[Any]]) -> int:
    """Take the higher price where two lists disagree. How many were raised."""
    listed = json.loads(RAISED.read_bytes())["models"] if RAISED.exists() else {}
    for name, rates in listed.items():
        if name in models:
            models[name] = raised(models[name], rates)
    return len(listed)


def raised(row: list[Any], rates: dict[str, int]) -> list[Any]:
    """Cache rates that nobody listed are those of the input, and rise with it; so do rare rates and variants."""
    maker, mode, given, made, read, write, *rest = row
    higher = max(given, rates.get("input", 0))
    read = higher if read == given else max(read, rates.get("cache_read", 0))
    write = max(write, rates.get("cache_write", 0), higher)
    dearer = max(made, rates.get("output", 0))
    ratio = max(Fraction(higher, given or 1), Fraction(dearer, made or 1))
    limits, more = rest[:4], [in_proportion(each, ratio) for each in rest[4:]]
    return [maker, mode, higher, dearer, min(read, higher), write, *limits, *more]


def in_proportion(more: dict[str, Any], ratio: Fraction) -> dict[str, Any]:
    """What few models have, dearer by `ratio`; fees stay as they are."""

    def all_of(rates: dict[str, int]) -> dict[str, int]:
        return {kind: -(-rate * ratio.numerator // ratio.denominator) for kind, rate in rates.items()}

    changed = {name: all_of(more[name]) for name in ("rare",) if name in more}
    variants = [[service, above, all_of(rates)] for service, above, rates in more.get("variants", ())]
    return {**more, **changed, **({"variants": variants} if variants else {})}


if __name__ == "__main__":
    main()
