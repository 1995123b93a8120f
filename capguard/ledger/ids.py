"""What an id tells of its age, and how long one is remembered."""

from __future__ import annotations

import re

RETENTION_MS = 24 * 3600 * 1000
"""How long an id is remembered after its call has ended."""

_MINTED = re.compile(r"([0-9a-f]{12})[0-9a-f]{20}")


def minted(now_ms: int, chance: bytes) -> str:
    """An id that carries its time: 12 hex digits of milliseconds, then ten bytes of `chance`."""
    return f"{now_ms:012x}{chance.hex()}"


def minted_ms(id: str) -> int | None:
    """When an id was minted; None for one that a caller made up."""
    found = _MINTED.fullmatch(id)
    return None if found is None else int(found[1], 16)
