"""What a response reports besides text: the tier that served it, audio and image tokens, searches, images, seconds."""

from __future__ import annotations

from typing import Any

from capguard.pricing.fields import count, first_count, get, items_of, path
from capguard.pricing.price import SERVICES


def service_of(*reports: Any) -> str | None:
    """The tier of service that has prices of its own, from the first of a response and its usage that names one."""
    for report in reports:
        tier = get(report, "service_tier")
        if tier in SERVICES:
            return str(tier)
    return None


def details_of(report: Any) -> dict[str, int]:
    """Audio and image tokens and those cached for an hour, by the field of `Usage`; only what is above 0."""
    given = get(report, "prompt_tokens_details") or get(report, "input_tokens_details")
    given = given or get(report, "input_token_details")
    made = get(report, "completion_tokens_details") or get(report, "output_tokens_details")
    made = made or get(report, "output_token_details")
    creation = get(report, "cache_creation")
    found = {
        "audio_input_tokens": first_count(given, "audio_tokens", "audio") or _modality(given, "AUDIO"),
        "image_input_tokens": first_count(given, "image_tokens") or _modality(given, "IMAGE"),
        "audio_output_tokens": first_count(made, "audio_tokens", "audio")
        or _modality(get(report, "candidates_tokens_details"), "AUDIO"),
        "image_output_tokens": first_count(made, "image_tokens")
        or _modality(get(report, "candidates_tokens_details"), "IMAGE"),
        "cache_write_1h_tokens": first_count(creation, "ephemeral_1h_input_tokens")
        or first_count(given, "ephemeral_1h_input_tokens"),
    }
    return {name: tokens for name, tokens in found.items() if tokens}


def pieces_of(response: Any, report: Any) -> dict[str, int]:
    """Pieces that are charged one by one, by their names in `Usage.quantities`; only what is above 0."""
    found = {
        "searches": _searches(response, report),
        "images": len(drawn_images(response)),
        "seconds": _seconds(response, report),
        "queries": first_count(path(response, "meta", "billed_units"), "search_units"),
        "pages": first_count(get(response, "usage_info"), "pages_processed"),
    }
    return {piece: number for piece, number in found.items() if number}


def drawn_images(response: Any) -> list[Any]:
    """The images of an image generation; embeddings have a `data` too."""
    data = items_of(get(response, "data"))
    return [each for each in data if get(each, "b64_json") is not None or get(each, "url") is not None]


def _searches(response: Any, report: Any) -> int:
    """As Anthropic, LiteLLM and Perplexity count them; OpenAI's responses list every one."""
    counted = (
        first_count(get(report, "server_tool_use"), "web_search_requests")
        or first_count(get(report, "prompt_tokens_details"), "web_search_requests")
        or first_count(report, "num_search_queries")
    )
    return counted or sum(get(each, "type") == "web_search_call" for each in items_of(get(response, "output")))


def _seconds(response: Any, report: Any) -> int:
    """Of sound that was transcribed, rounded up: where the usage says it, or a verbose reply."""
    if get(report, "type") == "duration":
        said = get(report, "seconds")
    else:
        said = get(response, "duration") if report is None and get(response, "text") is not None else None
    if isinstance(said, str):
        said = float(said) if said.replace(".", "", 1).isdigit() else None
    return -int(-said // 1) if isinstance(said, (int, float)) and not isinstance(said, bool) and 0 < said < 1e9 else 0


def _modality(details: Any, kind: str) -> int:
    """google-genai: a list of counts by modality."""
    return sum(count(get(each, "token_count")) or 0 for each in items_of(details) if _name(each) == kind)


def _name(detail: Any) -> str:
    modality = get(detail, "modality")
    return str(getattr(modality, "value", modality)).upper()
