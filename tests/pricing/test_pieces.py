"""What responses report besides text: tiers of service, audio, images, searches, seconds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from capguard.pricing.responses import read_usage
from capguard.pricing.stream import StreamReader
from capguard.pricing.usage import Usage

CHAT = {"prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130}
CLAUDE = {"input_tokens": 10, "output_tokens": 5}


def chat(**usage: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [], "usage": CHAT | usage}


BASE = {"model": "m", "input_tokens": 100, "output_tokens": 30}
REPORTS: list[tuple[str, Any, Usage]] = [
    ("openai, priority", {**chat(), "service_tier": "priority"}, Usage(**BASE, service="priority")),
    ("openai, standard", {**chat(), "service_tier": "default"}, Usage(**BASE)),
    (
        "openai, audio and cache",
        chat(
            prompt_tokens_details={"audio_tokens": 60, "cached_tokens": 50},
            completion_tokens_details={"audio_tokens": 20, "reasoning_tokens": 15},
        ),
        Usage(**BASE, cache_read_tokens=50, audio_input_tokens=50, reasoning_tokens=15, audio_output_tokens=15),
    ),
    (
        "openai responses, searches",
        {"model": "m", "usage": CLAUDE, "output": [{"type": "web_search_call"}, {"type": "message"}]},
        Usage(model="m", input_tokens=10, output_tokens=5, quantities={"searches": 1}),
    ),
    (
        "openai image",
        {
            "created": 1,
            "data": [{"b64_json": "A"}, {"b64_json": "B"}],
            "usage": {"input_tokens": 50, "output_tokens": 400, "input_tokens_details": {"image_tokens": 40}},
        },
        Usage(
            input_tokens=50, output_tokens=400, image_input_tokens=40, image_output_tokens=400, quantities={"images": 2}
        ),
    ),
    ("an image without tokens", {"created": 1, "data": [{"url": "http://x"}]}, Usage(quantities={"images": 1})),
    (
        "a transcription by its tokens",
        {
            "text": "x",
            "usage": {
                "type": "tokens",
                "input_tokens": 14,
                "output_tokens": 45,
                "input_token_details": {"audio_tokens": 14, "text_tokens": 0},
            },
        },
        Usage(input_tokens=14, output_tokens=45, audio_input_tokens=14),
    ),
    (
        "a transcription by its length",
        {"text": "x", "usage": {"type": "duration", "seconds": 9}},
        Usage(quantities={"seconds": 9}),
    ),
    ("a verbose transcription", {"text": "x", "duration": "8.47"}, Usage(quantities={"seconds": 9})),
    (
        "anthropic, an hour, searches, batch",
        {
            "model": "c",
            "usage": CLAUDE
            | {
                "cache_creation_input_tokens": 30,
                "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
                "server_tool_use": {"web_search_requests": 2},
                "service_tier": "batch",
            },
        },
        Usage(
            model="c",
            input_tokens=40,
            output_tokens=5,
            cache_write_tokens=30,
            cache_write_1h_tokens=20,
            quantities={"searches": 2},
            service="batch",
        ),
    ),
    (
        "gemini, sound and an image that was drawn",
        SimpleNamespace(
            model_version="g",
            usage_metadata=SimpleNamespace(
                prompt_token_count=100,
                candidates_token_count=1300,
                prompt_tokens_details=[SimpleNamespace(modality=SimpleNamespace(value="AUDIO"), token_count=90)],
                candidates_tokens_details=[SimpleNamespace(modality="IMAGE", token_count=1290)],
            ),
        ),
        Usage(model="g", input_tokens=100, output_tokens=1300, audio_input_tokens=90, image_output_tokens=1290),
    ),
    (
        "a rerank",
        {"id": "r", "results": [], "meta": {"billed_units": {"search_units": 1}}},
        Usage(quantities={"queries": 1}),
    ),
    (
        "pages",
        {"model": "o", "pages": [], "usage_info": {"pages_processed": 7}},
        Usage(model="o", quantities={"pages": 7}),
    ),
    ("perplexity", chat(num_search_queries=3), Usage(**BASE, quantities={"searches": 3})),
    ("embeddings are no images", {"data": [{"embedding": [1]}], "usage": {"prompt_tokens": 5}}, Usage(input_tokens=5)),
]


@pytest.mark.parametrize(("response", "usage"), [each[1:] for each in REPORTS], ids=[each[0] for each in REPORTS])
def test_reads_what_is_billed(response: Any, usage: Usage):
    """Every part once: where parts overlap, none of them exceeds the whole."""
    assert read_usage(response) == usage


ODD = [{"text": "x", "duration": "soon"}, {"usage": {"type": "duration", "seconds": -1}}, {"data": "x"}, {"output": 5}]


@pytest.mark.parametrize("response", ODD, ids=str)
def test_what_is_odd_reports_nothing(response: Any):
    """And raises nothing."""
    assert read_usage(response) is None


def test_a_stream_says_the_same():
    """OpenAI's chunks name the tier, Anthropic's first event the hour and the searches."""
    reader = StreamReader()
    reader.feed({"choices": [{"delta": {"content": "x"}}], "model": "m", "service_tier": "flex"})
    reader.feed({"choices": [], "usage": CHAT})
    assert reader.usage == Usage(**BASE, service="flex")
    reader = StreamReader()
    start = {"cache_creation_input_tokens": 30, "cache_creation": {"ephemeral_1h_input_tokens": 20}, "input_tokens": 10}
    reader.feed({"type": "message_start", "message": {"model": "c", "usage": start}})
    reader.feed({"type": "message_delta", "usage": {"output_tokens": 5, "server_tool_use": {"web_search_requests": 1}}})
    reader.feed({"type": "message_stop"})
    assert reader.usage == Usage(
        model="c",
        input_tokens=40,
        output_tokens=5,
        cache_write_tokens=30,
        cache_write_1h_tokens=20,
        quantities={"searches": 1},
    )
