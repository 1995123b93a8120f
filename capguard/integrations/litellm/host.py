"""LiteLLM itself, imported late, with every name that the adapter builds on looked for before it is used."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from typing import Any

from capguard.errors import missing_extra

OLDEST = "1.80.0"
"""The oldest LiteLLM that the tests run against."""


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


def parameters(function: Any) -> tuple[str, ...]:
    """The names of a function's parameters that may be given by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(name for name, each in inspect.signature(function).parameters.items() if each.kind in kinds)
