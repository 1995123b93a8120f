"""LiteLLM's price list, read as data, as rows of a price book. litellm itself is never imported.

Source: model_prices_and_context_window.json (https://github.com/BerriAI/litellm), Copyright 2023 Berri AI, MIT licence.
Prices there are in dollars per token or piece.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from capguard.ledger.money import pico_per_unit
from capguard.pricing.litellm_rates import fees, rare, standard, variants

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

_TEXT = {"chat", "completion", "responses", "realtime"}
_MODES = _TEXT | {
    *("embedding", "rerank", "search", "ocr"),
    *("image_generation", "image_edit", "audio_transcription", "audio_speech", "video_generation"),
}
_NOT_MODELS = {"sample_spec", "fallback_generalizations"}
_MILLION = 10**6
_DEAREST = {"input": 150 * _MILLION, "output": 600 * _MILLION, "embedding": 10 * _MILLION}
"""The highest believable rates, in pico-dollars per token: o1-pro is the dearest model ever listed, 150/600 per M."""


def path_of() -> Path | None:
    """The list of the installed litellm, None where it is not installed."""
    try:
        spec = find_spec("litellm")
    except ValueError:  # a stand-in module that somebody put into sys.modules
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "model_prices_and_context_window_backup.json"


def parsed(text: bytes) -> dict[str, dict[str, Any]]:
    """The list as decimals. Raises ValueError for what is no JSON object of objects."""
    loaded = json.loads(text, parse_float=Decimal)
    if not isinstance(loaded, dict) or not all(isinstance(row, dict) for row in loaded.values()):
        raise ValueError("no price list: allowed: a JSON object with an object for each model")
    return loaded


def rows(
    listed: Mapping[str, Mapping[str, Any]], dropped: Counter[str], keep: Callable[[str], bool] = lambda _: True
) -> Iterator[tuple[str, list[Any]]]:
    """The rows that can be believed, each also under its aliases; why others are left out is counted in `dropped`.

    A model that is left out is unknown, never free. `keep` chooses the makers.
    """
    for name, row in listed.items():
        maker = str(row.get("litellm_provider", ""))
        if name in _NOT_MODELS or row.get("mode") not in _MODES or not keep(maker):
            continue
        try:
            compiled = row_of(name, row, maker)
        except (ValueError, TypeError, AttributeError):
            dropped["not readable"] += 1
            continue
        if doubt := doubts(compiled):
            dropped[doubt] += 1
            continue
        for known_as in (name, *row.get("aliases", ())):
            yield known_as, compiled


def row_of(name: str, row: Mapping[str, Any], maker: str) -> list[Any]:
    """One row in the shape that PriceBook reads.

    A cache rate that is missing or zero is billed as plain input; no provider writes to a cache below that. Prices of
    off-peak hours are left out: every call is charged at the peak.
    """
    mode, base = row["mode"], standard(row)
    more = {
        "rare": rare(row, base),
        "fees": fees(name, row),
        "variants": variants(row, base),
        "retires": row.get("deprecation_date"),
    }
    compiled = [
        *(maker, mode, base["input"], base["output"], base["cache_read"], base["cache_write"]),
        pico_per_unit(row.get("input_cost_per_request") or 0, what="input_cost_per_request"),
        _limit(row.get("max_input_tokens")),
        _limit(row.get("max_output_tokens") or (mode in _TEXT and row.get("max_tokens"))),
        sorted(NAMES.index(feature) for key, feature in FEATURES.items() if row.get(key)),
    ]
    said = {key: value for key, value in more.items() if value}
    return [*compiled, said] if said else compiled


def doubts(row: list[Any]) -> str | None:
    """Why a row is not believed, None if it is. Never trust a price of zero."""
    _, mode, given, made, read, _, request, _, _, _, *more = row
    pieces = bool(more and more[0].get("fees"))
    of_text = (given or request) and made
    of_others = given or (made and mode != "embedding") or pieces
    priced = of_text if mode in _TEXT else of_others
    if not priced:
        return "a price of zero"
    if given > _DEAREST["embedding" if mode == "embedding" else "input"] or made > _DEAREST["output"]:
        return "beyond belief"
    return "cache read above input" if read > given else None


def _limit(tokens: Any) -> int | None:
    return int(tokens) if tokens else None
