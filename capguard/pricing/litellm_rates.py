"""The rates of one row of LiteLLM's list, in pico-dollars: the standard ones, rare ones, fees, and all variants."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from capguard.ledger.money import pico_per_unit

Row = Mapping[str, Any]
Rates = dict[str, int]

_KEYS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "reasoning": "output_cost_per_reasoning_token",
    "audio_input": "input_cost_per_audio_token",
    "audio_output": "output_cost_per_audio_token",
    "image_input": "input_cost_per_image_token",
    "image_output": "output_cost_per_image_token",
}
_BASE = ("input", "output", "cache_read", "cache_write")
_MADE = ("output", "reasoning", "audio_output", "image_output")
_SERVICES = {"batch": "_batches", "flex": "_flex", "priority": "_priority"}
_SIZE = re.compile(r"input_cost_per_token_above_(\d+)k_tokens$")
_PICTURE = re.compile(r"(\d+)-x-(\d+)")
_TIMED = {"audio_transcription", "audio_speech", "video_generation"}
_DRAWS = {"image_generation", "image_edit"}


def standard(row: Row) -> Rates:
    """Input, output and cache; those of the smallest context where a list of sizes takes the place of plain rates."""
    tiers = _sized(row)
    found = _listed(tiers[0][1] if tiers else row)
    given = found.get("input", 0)
    return {
        "input": given,
        "output": found.get("output", 0),
        "cache_read": found.get("cache_read") or given,
        "cache_write": max(found.get("cache_write", 0), given),
    }


def rare(row: Row, base: Rates) -> Rates:
    """Rates for tokens that few models charge apart, where they differ from the whole."""
    tiers = _sized(row)
    found = _listed(row) | (_listed(tiers[0][1]) if tiers else {})
    rates = {name: found[name] for name in _KEYS if name not in _BASE and found.get(name)}
    rates = {**hour_rate(str(row.get("litellm_provider")), base["input"], base["cache_write"]), **rates}
    return {name: rate for name, rate in rates.items() if "audio" in name or rate != base[_whole(name)]}


def hour_rate(maker: str, given: int, write: int) -> Rates:
    """What a cache of an hour costs where a list leaves it out: Anthropic charges twice the input for it.

    Source: docs.anthropic.com, prompt caching.
    """
    return {"cache_write_1h": 2 * given} if maker == "anthropic" and write > given else {}


def fees(name: str, row: Row) -> Rates:
    """What a piece costs. Where a list has several prices for it (sizes, qualities, both directions): the dearest."""
    mode = row.get("mode")
    found = {"searches": _dearest(row, "search_context_cost_per_query")}
    if not row.get("output_cost_per_image_token"):
        found["images"] = _dearest(row, "output_cost_per_image")
    if mode in _DRAWS or mode == "embedding":
        found["images"] = max(found.get("images", 0), _dearest(row, "input_cost_per_image"), _by_area(name, row))
    if mode in _TIMED:
        found["seconds"] = _dearest(row, "input_cost_per_second", "output_cost_per_second")
    if mode == "audio_speech":
        found["characters"] = _dearest(row, "input_cost_per_character")
    found["pages"] = _dearest(row, "ocr_cost_per_page")
    found["queries"] = max(_dearest(row, "input_cost_per_query"), *_by_results(row))
    return {piece: rate for piece, rate in found.items() if rate}


def variants(row: Row, base: Rates) -> list[list[Any]]:
    """`[service, above, rates]` for every tier of service and context size, smaller sizes first.

    Where a rate of a variant is not listed, it stands to the standard one as the variant's input, or output, does.
    """
    plain = {**base, **rare(row, base)}
    sizes = {above: _filled(_listed(tier), plain) for above, tier in _sized(row) if above}
    sizes |= {1000 * size: _filled(_listed(row, f"_above_{size}k_tokens"), plain) for size in _sizes(row)}
    found: list[tuple[str | None, int, Rates]] = [(None, above, sizes[above]) for above in sorted(sizes)]
    for service, suffix in _SERVICES.items():
        if listed := _listed(row, suffix):
            whole = _filled(listed, plain)
            found.append((service, 0, whole))
            found += [
                (service, above, _of_both(row, above, suffix, sizes[above], whole, plain)) for above in sorted(sizes)
            ]
    return [[service, above, _differing(rates, plain)] for service, above, rates in found]


def _of_both(row: Row, above: int, suffix: str, sized: Rates, served: Rates, plain: Rates) -> Rates:
    """The rates of a tier of service above a size: as listed, else as much dearer as the standard ones are there."""
    dearer = {name: -(-rate * sized[name] // (plain[name] or 1)) for name, rate in served.items()}
    return _filled(_listed(row, f"_above_{above // 1000}k_tokens{suffix}"), dearer)


def _differing(rates: Rates, plain: Rates) -> Rates:
    written = max(rates["cache_write"], rates["input"])  # no provider writes to a cache below its input
    return {name: rate for name, rate in {**rates, "cache_write": written}.items() if rate != plain.get(name)}


def _filled(listed: Rates, standard: Rates) -> Rates:
    """All rates of a variant: what is listed, and the rest in proportion."""
    filled = {}
    for name, rate in standard.items():
        lead = "output" if name in _MADE and standard["output"] else "input"
        proportional = -(-rate * (listed.get(lead) or standard[lead]) // (standard[lead] or 1))
        filled[name] = listed.get(name) or proportional
    return filled


def _listed(row: Row, suffix: str = "") -> Rates:
    """The rates that stand in a row under keys with `suffix`, at the peak where it has off-peak hours."""
    found = {}
    for name, key in _KEYS.items():
        rate = pico_per_unit(row.get(key + suffix) or 0, what=key + suffix)
        if rate:
            found[name] = rate
    if not suffix and isinstance(off_peak := row.get("off_peak_pricing"), Mapping):
        for name, rate in _listed(off_peak).items():
            found[name] = max(rate, found.get(name, 0))
    return found


def _sized(row: Row) -> list[tuple[int, Row]]:
    """Token prices by the size of the context, where they take the place of plain ones."""
    tiers = [tier for tier in row.get("tiered_pricing") or () if "range" in tier]
    return sorted(((int(tier["range"][0]), tier) for tier in tiers), key=lambda tier: tier[0])


def _sizes(row: Row) -> list[int]:
    return [int(found[1]) for key in row if (found := _SIZE.match(key)) and row[key]]


def _dearest(row: Row, *keys: str) -> int:
    """The highest of the prices under `keys`, and under the same with a size or quality behind."""
    rates = [0]
    for key, value in row.items():
        if not key.startswith(keys) or "_token" in key:
            continue
        values = value.values() if isinstance(value, Mapping) else [value]
        rates += [pico_per_unit(each or 0, what=key) for each in values]
    return max(rates)


def _by_area(name: str, row: Row) -> int:
    """A price per pixel as one per image, where the name says the size."""
    size = _PICTURE.search(name)
    if size is None or not row.get("input_cost_per_pixel"):
        return 0
    return pico_per_unit(row["input_cost_per_pixel"] * int(size[1]) * int(size[2]), what="input_cost_per_pixel")


def _by_results(row: Row) -> list[int]:
    """Prices of a search by the number of its results."""
    tiers = [tier for tier in row.get("tiered_pricing") or () if "input_cost_per_query" in tier]
    return [0, *(pico_per_unit(tier["input_cost_per_query"], what="input_cost_per_query") for tier in tiers)]


def _whole(name: str) -> str:
    return "cache_write" if name == "cache_write_1h" else "output" if name in _MADE else "input"
