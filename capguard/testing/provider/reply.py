"""A reply before it takes a provider's shape: how many tokens of which kind, and a text as long as they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import uuid4

from capguard.testing.provider.settings import Settings

Json = dict[str, Any]

USUAL_OUTPUT = 50
"""Tokens of a reply whose length neither the settings nor the call decide."""

_WORDS = ("a", "hold", "before", "each", "call", "and", "the", "real", "cost", "booked", "after", "it")
_PROMPT_FIELDS = ("messages", "prompt", "input", "system", "instructions")
_LETTERS_PER_TOKEN = 4


class Dropped(Exception):
    """The settings drop the connection here."""


@dataclass(frozen=True)
class Reply:
    """What one call is answered with. `output_tokens` and its parts are per choice, `total_output` is for all."""

    request: Json
    settings: Settings
    input_tokens: int
    output_tokens: int
    truncated: bool
    choices: int = 1

    @cached_property
    def id(self) -> str:
        return uuid4().hex

    @cached_property
    def created(self) -> int:
        return int(time.time())

    @property
    def model(self) -> str:
        return f"{self.request['model']}{self.settings.model_suffix}"

    @property
    def cached(self) -> int:
        return min(self.settings.cached_tokens, self.input_tokens)

    @property
    def cache_written(self) -> int:
        return min(self.settings.cache_write_tokens, self.input_tokens - self.cached)

    @property
    def reasoning(self) -> int:
        return min(self.settings.reasoning_tokens, self.output_tokens)

    @property
    def total_output(self) -> int:
        return self.output_tokens * self.choices

    @property
    def text(self) -> str:
        return _words(0, self._visible)

    def pieces(self) -> Iterator[str]:
        """The text, `chunk_tokens` words at a time. Raises Dropped after `disconnect_after` pieces."""
        size, drop = self.settings.chunk_tokens, self.settings.disconnect_after
        starts = range(0, self._visible, size)
        for number, start in enumerate(starts):
            if number == drop:
                raise Dropped
            yield _words(start, min(start + size, self._visible))
        if drop == len(starts):
            raise Dropped

    @property
    def _visible(self) -> int:
        return self.output_tokens - self.reasoning


def reply_to(request: Json, settings: Settings, limit: int | None) -> Reply:
    """The reply to `request`, whose limit on the output is `limit` tokens. Raises ValueError for a wrong `n`."""
    choices = 1 if request.get("n") is None else request["n"]
    if type(choices) is not int or not 1 <= choices <= 128:
        raise ValueError(f"n: {choices!r} is refused; allowed: a whole number from 1 to 128")
    usual = USUAL_OUTPUT if limit is None else min(limit, USUAL_OUTPUT)
    output = usual if settings.output_tokens is None else settings.output_tokens
    return Reply(
        request=request,
        settings=settings,
        input_tokens=_prompt_tokens(request) if settings.input_tokens is None else settings.input_tokens,
        output_tokens=output,
        truncated=limit is not None and output >= limit,
        choices=choices,
    )


def _prompt_tokens(request: Json) -> int:
    letters = sum(_letters(request.get(field)) for field in _PROMPT_FIELDS)
    return max(1, -(-letters // _LETTERS_PER_TOKEN))


def _letters(value: object) -> int:
    match value:
        case str():
            return len(value)
        case list():
            return sum(_letters(item) for item in value)
        case dict():
            return _letters(value.get("content")) + _letters(value.get("text"))
        case int():  # an embedding input that is tokens already
            return _LETTERS_PER_TOKEN
    return 0


def _words(start: int, stop: int) -> str:
    text = " ".join(_WORDS[at % len(_WORDS)] for at in range(start, stop))
    return f" {text}" if start else text
