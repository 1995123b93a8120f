"""What a game is."""

from __future__ import annotations

from collections.abc import Callable

from tests.backends.redis_place import Place

Game = Callable[[Place], None]

GAMES: list[Game] = []


def game(each: Game) -> Game:
    """Mark a game: it is played on every server as it is, and against mutants."""
    GAMES.append(each)
    return each
