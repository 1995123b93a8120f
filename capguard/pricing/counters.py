"""Token counters of one's own: a plugin may count for the models that it knows."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol


class TokenCounter(Protocol):
    """Counts texts of the models that it is given for. `exact`: as the provider bills them, else a guess."""

    exact: bool

    def count(self, text: str) -> int:
        """The tokens of `text`, quickly and without a network."""


Finder = Callable[[str], TokenCounter | None]

_finders: list[Finder] = []


def register(finder: Finder) -> None:
    """Ask `finder` for the counter of every model from now on; the first that has one is used."""
    _finders.append(finder)
    counter_of.cache_clear()


def unregister(finder: Finder) -> None:
    _finders.remove(finder)
    counter_of.cache_clear()


@lru_cache(1024)
def counter_of(model: str) -> TokenCounter | None:
    """The counter that was registered for `model`; None where capguard counts itself."""
    return next((counter for finder in _finders if (counter := finder(model)) is not None), None)
