"""Which paths an option means: a path and everything below it, or a pattern with `*`."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


class Paths:
    """`"/chat" in Paths(["/chat"])`, and so is `/chat/more`; `/v1/*/chat` is a pattern.

    Raises ValueError for what does not begin with a slash or a `*`.
    """

    def __init__(self, patterns: Iterable[str], option: str):
        if isinstance(patterns, str):
            raise ValueError(f"{option}: {patterns!r} is one text; allowed: a list of paths")
        self._patterns = tuple(patterns)
        for each in self._patterns:
            if not isinstance(each, str) or not each.startswith(("/", "*")):
                raise ValueError(f"{option}: {each!r} is refused; allowed: paths that begin with / or *")

    def __contains__(self, path: str) -> bool:
        return any(_matches(path, pattern) for pattern in self._patterns)


def _matches(path: str, pattern: str) -> bool:
    if "*" in pattern:
        return fnmatchcase(path, pattern)
    return path == pattern or path.startswith(pattern.rstrip("/") + "/")
