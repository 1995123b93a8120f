"""Patterns for names: for a price the exact name first, then the most specific pattern; for a match any of them."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


def best_match(patterns: Iterable[str], name: str) -> str | None:
    """The one of `patterns` that speaks for `name`: the same text, else the longest that matches, else None.

    The order in which a document lists its patterns has no meaning. Patterns are those of `fnmatch`, case-sensitive.
    """
    matching = [pattern for pattern in patterns if pattern == name or fnmatchcase(name, pattern)]
    return max(matching, key=lambda pattern: (pattern == name, len(pattern), pattern), default=None)


def any_matches(patterns: Iterable[str], values: Iterable[str | None]) -> bool:
    """Whether one of `patterns` matches one of `values`; None matches nothing."""
    return any(value is not None and fnmatchcase(value, pattern) for pattern in patterns for value in values)


def model_names(model: str | None) -> tuple[str | None, ...]:
    """A model is matched as it is called, and without its host's prefix."""
    return (model,) if model is None or "/" not in model else (model, model.rpartition("/")[2])
