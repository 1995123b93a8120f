"""The usage that a provider's response reports, by duck typing: no SDK is imported.

Known shapes, as objects and as dicts: OpenAI chat completions, completions, responses and embeddings; Anthropic
messages; LiteLLM; LangChain messages and results; google-genai; and whatever `with_raw_response` wraps.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from capguard.ledger.money import MAX_AMOUNT
from capguard.pricing.fields import count, first_count, get, items_of, path
from capguard.pricing.pieces import details_of, pieces_of, service_of
from capguard.pricing.usage import Usage


def read_usage(response: Any) -> Usage | None:
    """The usage that `response` reports, None where it reports none or only zeros. Never raises."""
    if isinstance(response, Usage):
        return response
    try:
        return _read(response)
    # A reply that the provider gave is never turned into an exception; the caller books and flags a missing usage.
    except Exception:  # noqa: BLE001
        return None


def usage_from(report: Any, model: Any = None) -> Usage | None:
    """A provider's usage object or dict as a Usage; None for an unknown shape, and for zeros, which are no report."""
    if report is None:
        return None
    for key, read in _SHAPES:
        if count(get(report, key)) is not None:
            usage = read(report, model if isinstance(model, str) else None)
            return _detailed(usage, report) if usage.tokens else None
    return None


def _read(response: Any) -> Usage | None:
    if response is None or isinstance(response, (str, bytes)):
        return None
    report = get(response, "usage")
    usage = usage_from(report, get(response, "model"))
    if usage is None:
        usage = _read_wrapped(response)
    return _with_pieces(usage, response, report)


def _with_pieces(usage: Usage | None, response: Any, report: Any) -> Usage | None:
    """The same with the tier of service and what has a fee: for some models that is all there is."""
    pieces, service = pieces_of(response, report), service_of(response, report)
    if usage is None:
        model = get(response, "model")
        found = model if isinstance(model, str) else None
        return Usage(model=found, quantities=pieces, service=service) if pieces else None
    if not pieces and service is None:
        return usage
    drawn = usage.output_tokens if "images" in pieces and not usage.reasoning_tokens else 0
    return replace(
        usage,
        quantities={**usage.quantities, **pieces},
        service=service or usage.service,
        image_output_tokens=usage.image_output_tokens or drawn,
    )


def _detailed(usage: Usage, report: Any) -> Usage:
    """The same with audio, images and what was cached for an hour; parts that overlap are counted once."""
    parts, service = details_of(report), service_of(report)
    pieces = pieces_of(None, report)
    if not parts and not pieces and service is None:
        return usage
    room = {
        "input": usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens,
        "output": usage.output_tokens - usage.reasoning_tokens,
        "1h": usage.cache_write_tokens,
    }
    for name, tokens in parts.items():
        side = next(side for side in room if side in name)
        parts[name] = min(tokens, room[side])
        room[side] -= parts[name]
    changes: dict[str, Any] = {**parts, "quantities": pieces, "service": service}
    return replace(usage, **changes)


def _read_wrapped(response: Any) -> Usage | None:
    """Everything that does not carry its `usage` at the top."""
    generations = items_of(get(response, "generations"))
    if generations:
        return _of_generations(generations, get(response, "llm_output"))
    message = get(response, "message") if get(response, "usage_metadata") is None else None
    if get(message, "usage_metadata") is not None:
        return _of_one(message)
    return _of_one(response)


def _of_one(response: Any) -> Usage | None:
    metadata = get(response, "response_metadata")
    model = _model(response, metadata)
    for report in (get(response, "usage_metadata"), get(response, "usage"), get(metadata, "token_usage"), response):
        usage = usage_from(report, model)
        if usage is not None:
            return usage
    return _of_raw(response)


def _model(response: Any, metadata: Any) -> Any:
    named = (get(response, "model"), path(metadata, "model_name"), path(metadata, "model"))
    return next((name for name in (*named, get(response, "model_version")) if isinstance(name, str)), None)


def _of_raw(response: Any) -> Usage | None:
    """The response inside a `with_raw_response` object."""
    parse = getattr(response, "parse", None)
    if not callable(parse) or getattr(response, "http_response", None) is None or inspect.iscoroutinefunction(parse):
        return None
    return _of_one(parsed) if (parsed := parse()) is not response else None


def _of_generations(generations: list[Any], output: Any) -> Usage | None:
    """LangChain results. Every choice of one prompt repeats the usage of the call, so the first of each one counts."""
    prompts = generations if isinstance(generations[0], list) else [generations]
    usages = [usage for choices in prompts if (usage := _first(get(choice, "message") for choice in choices))]
    if usages:
        return sum(usages[1:], usages[0])
    model = get(output, "model_name") or get(output, "model")
    return usage_from(get(output, "token_usage"), model) or usage_from(get(output, "usage"), model)


def _first(messages: Iterable[Any]) -> Usage | None:
    return next((usage for message in messages if message is not None and (usage := _of_one(message))), None)


def _of_chat(report: Any, model: str | None) -> Usage:
    """OpenAI chat, completions, embeddings and LiteLLM: prompt_tokens includes the cache."""
    details, made = get(report, "prompt_tokens_details"), get(report, "completion_tokens_details")
    return _usage(
        model,
        count(get(report, "prompt_tokens")) or 0,
        count(get(report, "completion_tokens")) or 0,
        read=first_count(details, "cached_tokens")
        or first_count(report, "cache_read_input_tokens", "prompt_cache_hit_tokens"),
        write=first_count(details, "cache_write_tokens", "cache_creation_tokens")
        or first_count(report, "cache_creation_input_tokens"),
        reasoning=first_count(made, "reasoning_tokens"),
        total=count(get(report, "total_tokens")),
    )


def _of_input(report: Any, model: str | None) -> Usage:
    """OpenAI responses and LangChain, which include the cache in the input, and Anthropic, which does not."""
    given = get(report, "input_token_details") or get(report, "input_tokens_details")
    made = get(report, "output_token_details") or get(report, "output_tokens_details")
    read, write = _cache_parts(given)
    tokens = count(get(report, "input_tokens")) or 0
    if given is None:
        read = first_count(report, "cache_read_input_tokens")
        write = first_count(report, "cache_creation_input_tokens")
        tokens += read + write
    return _usage(
        model,
        tokens,
        count(get(report, "output_tokens")) or 0,
        read=read,
        write=write,
        reasoning=first_count(made, "reasoning_tokens", "reasoning", "thinking_tokens"),
    )


def _cache_parts(details: Any) -> tuple[int, int]:
    by_age = sum(first_count(details, f"ephemeral_{age}_input_tokens") for age in ("5m", "1h"))
    write = first_count(details, "cache_write_tokens", "cache_creation")
    return first_count(details, "cached_tokens", "cache_read"), max(write, by_age)


def _of_google(report: Any, model: str | None) -> Usage:
    """google-genai: thoughts stand beside the candidates, what tools put into the prompt beside the prompt."""
    thoughts = first_count(report, "thoughts_token_count")
    return _usage(
        model,
        first_count(report, "prompt_token_count") + first_count(report, "tool_use_prompt_token_count"),
        first_count(report, "candidates_token_count") + thoughts,
        read=first_count(report, "cached_content_token_count"),
        reasoning=thoughts,
    )


_SHAPES = (("prompt_tokens", _of_chat), ("input_tokens", _of_input), ("prompt_token_count", _of_google))


def _usage(
    model: str | None,
    given: int,
    made: int,
    *,
    read: int = 0,
    write: int = 0,
    reasoning: int = 0,
    total: int | None = None,
) -> Usage:
    """One Usage, with parts that a provider left out of its sums put back: nothing billed is lost."""
    if read + write > given:
        given += read + write
    if reasoning > made or (reasoning and total == given + made + reasoning):
        made += reasoning  # xAI counts reasoning beside the completion, and in the total
    return Usage(
        model=model,
        input_tokens=min(given, MAX_AMOUNT),
        output_tokens=min(made, MAX_AMOUNT),
        cache_read_tokens=read,
        cache_write_tokens=write,
        reasoning_tokens=reasoning,
    )
