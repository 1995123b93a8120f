"""What a fake provider does with a call: how many tokens, how slowly, and when it fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Settings:
    """How the fake provider answers. Raises ValueError for a value that is not allowed, and says what is.

    Tokens are per choice where a call asks for `n` of them. A count given here is billed as it stands, even beyond the
    limit of the call, so that an overrun can be tested.
    """

    input_tokens: int | None = None
    """The whole prompt, cached parts among it. None: about a quarter of its characters."""
    output_tokens: int | None = None
    """The whole output, reasoning among it. None: 50, or the call's own limit if that is lower."""
    cached_tokens: int = 0
    """Of the input: read from the cache."""
    cache_write_tokens: int = 0
    """Of the input: written to the cache. Only Anthropic bills it apart."""
    reasoning_tokens: int = 0
    """Of the output: thought, not shown."""
    latency: float = 0.0
    """Seconds before the first byte."""
    chunk_delay: float = 0.0
    """Seconds between two events of a stream."""
    chunk_tokens: int = 10
    """Tokens in one piece of a streamed text."""
    fail_status: int | None = None
    """The status of a failure, 400 to 599. None: no failure, or 500 where `fail_first` asks for one."""
    fail_first: int = 0
    """Fail this many calls, then succeed. 0 with a `fail_status`: fail all."""
    disconnect_after: int | None = None
    """Drop the connection after this many pieces of text. A plain reply is one piece: 0 drops it."""
    tool_rounds: int = 0
    """OpenAI chat: the first tool of a call is used until so many results stand after the last message of the user."""
    model_suffix: str = ""
    """Added to the model that the reply names: "-2024-08-06"."""

    def __post_init__(self) -> None:
        for field in fields(self):
            allowed, accepts = _RULES[field.name]
            value = getattr(self, field.name)
            if not accepts(value):
                raise ValueError(f"{field.name}: {value!r} is refused; allowed: {allowed}")

    def changed(self, **changes: Any) -> Settings:
        """A copy with `changes`. Raises ValueError for a setting that does not exist or a value that is refused."""
        unknown = sorted(set(changes) - set(_RULES))
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no such setting; allowed: {', '.join(_RULES)}")
        return replace(self, **changes)

    def for_call(self, headers: Mapping[str, str]) -> Settings:
        """A copy for one call, as its `x-fake-*` headers say. Raises ValueError for a header that is refused."""
        changes: dict[str, Any] = {}
        for header, override in _HEADERS.items():
            text = headers.get(header)
            if text is not None:
                changes |= _parsed(header, text, override)
        return replace(self, **changes) if changes else self


def _parsed(header: str, text: str, override: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    try:
        return override(text)
    except ValueError as cause:
        raise ValueError(f"{header}: {text!r} is refused; allowed: a number") from cause


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_count_or_none(value: object) -> bool:
    return value is None or _is_count(value)


def _is_seconds(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0  # type: ignore[arg-type, operator]


def _is_failure(value: object) -> bool:
    return value is None or (type(value) is int and 400 <= value <= 599)


def _status(text: str) -> dict[str, Any]:
    status = int(text)
    return {"fail_first": 0, "fail_status": None if status == 200 else status}


_COUNT = ("a whole number, 0 or more", _is_count)
_COUNT_OR_NONE = ("a whole number, 0 or more, or None", _is_count_or_none)
_SECONDS = ("seconds, 0 or more", _is_seconds)

_RULES: dict[str, tuple[str, Callable[[object], bool]]] = {
    "input_tokens": _COUNT_OR_NONE,
    "output_tokens": _COUNT_OR_NONE,
    "cached_tokens": _COUNT,
    "cache_write_tokens": _COUNT,
    "reasoning_tokens": _COUNT,
    "latency": _SECONDS,
    "chunk_delay": _SECONDS,
    "chunk_tokens": ("a whole number, 1 or more", lambda value: _is_count(value) and value != 0),
    "fail_status": ("a status from 400 to 599, or None", _is_failure),
    "fail_first": _COUNT,
    "disconnect_after": _COUNT_OR_NONE,
    "tool_rounds": _COUNT,
    "model_suffix": ("a text", lambda value: isinstance(value, str)),
}

_HEADERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "x-fake-input-tokens": lambda text: {"input_tokens": int(text)},
    "x-fake-output-tokens": lambda text: {"output_tokens": int(text)},
    "x-fake-latency": lambda text: {"latency": float(text)},
    "x-fake-status": _status,
}
"""Per call, so that many processes can replay one trace. A status of 200 succeeds whatever the settings say."""
