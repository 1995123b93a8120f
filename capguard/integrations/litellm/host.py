"""LiteLLM itself, imported late, with every name that the adapter builds on looked for before it is used."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

from capguard.errors import missing_extra

OLDEST = "1.80.0"
"""The oldest LiteLLM that the tests run against."""

OLDEST_INSIDE = "1.106.0"
"""The first whose own retries and mid-stream fallbacks do not step over what refuses them."""


@cache
def litellm() -> Any:
    """The package. Raises MissingExtra where it is not installed."""
    try:
        import litellm as installed
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "litellm":
            raise
        missing_extra("capguard.integrations.litellm", "litellm", missing)
    return installed


def require(owner: Any, names: Iterable[str], what: str) -> None:
    """Raises RuntimeError that names what this LiteLLM lacks: better than a cap that silently holds nothing."""
    if lacking := [name for name in names if not callable(getattr(owner, name, None))]:
        raise RuntimeError(
            f"{what} of litellm {version('litellm')} has no {', '.join(lacking)}, which capguard's caps hang on;"
            f" allowed: litellm {OLDEST} or newer, as far as capguard's documentation lists it as tested"
        )


def require_inside(what: str) -> None:
    """Raises RuntimeError for a LiteLLM that tries again by itself past a callback, or within a Router's stream."""
    found = version("litellm")
    if _numbers(found) < _numbers(OLDEST_INSIDE):
        raise RuntimeError(
            f"{what}: litellm {found} makes calls that no cap can see; allowed: litellm {OLDEST_INSIDE} or newer,"
            f" or CappedLiteLLM's own functions, from {OLDEST}"
        )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", text)[:3])


def parameters(function: Any) -> tuple[str, ...]:
    """The names of a function's parameters that may be given by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(name for name, each in inspect.signature(function).parameters.items() if each.kind in kinds)


def by_name(prompt: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """A hook's arguments with those that were given by position, as LiteLLM's own record has them."""
    record = kwargs.get("litellm_logging_obj")
    given = {"model": getattr(record, "model", None), prompt: getattr(record, "messages", None)}
    return {**given, **kwargs}


def full_name(kwargs: Mapping[str, Any]) -> str | None:
    """The model with its provider, which LiteLLM hands on beside it once it knows it: `openai/gpt-4o`."""
    model, provider = kwargs.get("model"), kwargs.get("custom_llm_provider")
    if not isinstance(model, str) or not provider or model.startswith(f"{provider}/"):
        return model
    return f"{provider}/{model}"


async def turn_of_the_loop() -> None:
    """Let LiteLLM's tasks put their events into its queue: they take up to three steps."""
    for _ in range(3):
        await asyncio.sleep(0)
