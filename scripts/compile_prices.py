"""Compile capguard/pricing/snapshot.json.gz from the price list of the installed LiteLLM, and the retired models.

    python scripts/compile_prices.py --as-of 2026-11-22

LiteLLM's file is read as data (MIT, Copyright 2023 Berri AI); litellm itself is never imported. The same input gives
the same bytes. Rows that cannot be true are left out and named: a model left out is unknown, never free.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from capguard.ledger.money import pico_per_unit  # noqa: E402
from capguard.pricing.book import canonical  # noqa: E402

SNAPSHOT = ROOT / "capguard/pricing/snapshot.json.gz"
RETIRED = ROOT / "scripts/retired_prices.json"
MODES = {"chat", "completion", "responses", "embedding"}
NOT_MODELS = {"sample_spec", "fallback_generalizations"}
MAKERS = {
    *("ai21", "anthropic", "azure", "azure_ai", "azure_text", "bedrock", "bedrock_converse", "bedrock_mantle"),
    *("cerebras", "codestral", "cohere", "cohere_chat", "dashscope", "deepinfra", "deepseek", "fireworks_ai"),
    *("fireworks_ai-embedding-models", "gemini", "groq", "meta_llama", "minimax", "mistral", "moonshot", "openai"),
    *("perplexity", "sambanova", "text-completion-codestral", "text-completion-openai", "together_ai", "vertex_ai"),
    *("voyage", "xai", "zai"),
}
FEATURES = {
    "supports_vision": "vision",
    "supports_function_calling": "tools",
    "supports_reasoning": "reasoning",
    "supports_response_schema": "schema",
    "supports_prompt_caching": "caching",
    "supports_audio_input": "audio_input",
    "supports_audio_output": "audio_output",
    "supports_pdf_input": "pdf",
    "supports_web_search": "web_search",
    "supports_computer_use": "computer_use",
}
NAMES = sorted(FEATURES.values())
MILLION = 10**6
DEAREST = {"input": 150 * MILLION, "output": 600 * MILLION, "embedding": 10 * MILLION}
"""The highest believable rates, in pico-dollars per token: o1-pro is the dearest model ever listed, 150/600 per M."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--as-of", type=date.fromisoformat, required=True, help="the date of the prices")
    options.add_argument("--out", type=Path, default=SNAPSHOT, help="the file to write")
    chosen = options.parse_args()
    dropped: Counter[str] = Counter()
    models = {**retired_rows(), **dict(listed_rows(dropped))}
    data = canonical(
        {
            "as_of": chosen.as_of.isoformat(),
            "source": "LiteLLM model_prices_and_context_window.json",
            "source_version": version("litellm"),
            "licence": "MIT, Copyright 2023 Berri AI",
            "features": NAMES,
            "models": models,
        }
    )
    chosen.out.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))
    print(f"{len(models)} models, {len(data):,} bytes, {chosen.out.stat().st_size:,} packed; left out: {dict(dropped)}")


def listed_rows(dropped: Counter[str]) -> Iterator[tuple[str, list[Any]]]:
    """The rows of LiteLLM's list that are kept, each also under its aliases."""
    for name, row in litellm_list().items():
        maker = str(row.get("litellm_provider", ""))
        if name in NOT_MODELS or row.get("mode") not in MODES or not known_maker(maker):
            continue
        compiled = compile_row(row, maker)
        doubt = doubts(compiled)
        if doubt:
            dropped[doubt] += 1
            continue
        for known_as in (name, *row.get("aliases", ())):
            yield known_as, compiled


def litellm_list() -> dict[str, dict[str, Any]]:
    spec = find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("litellm is not installed; its price list is the source of the snapshot")
    path = Path(spec.submodule_search_locations[0]) / "model_prices_and_context_window_backup.json"
    loaded: dict[str, dict[str, Any]] = json.loads(path.read_bytes(), parse_float=Decimal)
    return loaded


def known_maker(maker: str) -> bool:
    return maker in MAKERS or maker.startswith("vertex_ai-")


def compile_row(row: dict[str, Any], maker: str) -> list[Any]:
    """One row in the shape that PriceBook reads.

    A cache rate that is missing or zero is billed as plain input; no provider writes to a cache below that.
    """
    given, made = rate(row, "input_cost_per_token"), rate(row, "output_cost_per_token")
    return [
        maker,
        row["mode"],
        given,
        made,
        rate(row, "cache_read_input_token_cost") or given,
        max(rate(row, "cache_creation_input_token_cost"), given),
        rate(row, "input_cost_per_request"),
        limit(row.get("max_input_tokens")),
        limit(row.get("max_output_tokens") or (row["mode"] != "embedding" and row.get("max_tokens"))),
        sorted(NAMES.index(feature) for key, feature in FEATURES.items() if row.get(key)),
    ]


def rate(row: dict[str, Any], key: str) -> int:
    return pico_per_unit(row.get(key) or 0, what=key)


def limit(tokens: Any) -> int | None:
    return int(tokens) if tokens else None


def doubts(row: list[Any]) -> str | None:
    """Why a row is not believed, None if it is. Never trust a price of zero."""
    _, mode, given, made, read, *_ = row
    embedding = mode == "embedding"
    if not given or not (made or embedding):
        return "a price of zero"
    if given > DEAREST["embedding" if embedding else "input"] or made > DEAREST["output"]:
        return "beyond belief"
    return "cache read above input" if read > given else None


def retired_rows() -> dict[str, list[Any]]:
    """Models that LiteLLM dropped and people still call, in dollars per million tokens, kept by hand."""
    listed = json.loads(RETIRED.read_bytes())["models"]
    return {name: retired_row(row) for name, row in listed.items()}


def retired_row(row: dict[str, Any]) -> list[Any]:
    given, made = (pico_per_unit(row[key], MILLION, key) for key in ("input", "output"))
    read, write = (
        pico_per_unit(row[key], MILLION, key) if key in row else given for key in ("cache_read", "cache_write")
    )
    features = sorted(NAMES.index(feature) for feature in row.get("features", ()))
    limits = (row.get("max_input"), row.get("max_output"))
    return [row["provider"], row.get("mode", "chat"), given, made, read, write, 0, *limits, features]


if __name__ == "__main__":
    main()
