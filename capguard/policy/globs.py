"""Patterns for names of models: the exact name first, then the most specific pattern."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


def best_match(patterns: Iterable[str], name: str) -> str | None:
    """The one of `patterns` that speaks for `name`: the same text, else the longest that matches, else None.

    The order in which a document lists its patterns has no meaning. Patterns are those of `fnmatch`, case-sensitive.
    """
    matching = [pattern for pattern in patterns if pattern == name or fnmatchcase(name, pattern)]
    return max(matching, key=lambda pattern: (pattern == name, len(pattern), pattern), default=None)
