"""Small games for what the table of cases cannot reach on Redis: growing, ageing, losses, others between two steps.

Each is a function of a place of its own on a real server; it fails where the ledger there is wrong.
"""

from tests.backends.redis_games import ageing, growing, losing, meddling
from tests.backends.redis_games.game import GAMES, Game

__all__ = ["GAMES", "Game", "ageing", "growing", "losing", "meddling"]
