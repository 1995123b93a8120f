"""What an id tells of its age and of the shard of its call, and how long one is remembered."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b

RETENTION_MS = 24 * 3600 * 1000
"""How long an id is remembered after its call has ended."""

SHARDS = 64
"""Into how many a ledger is spread that is sharded, for good: where an identity is follows from it."""

_MINTED = re.compile(r"([0-9a-f]{12})[0-9a-f]{18}([0-9a-f]{2})")


@lru_cache(maxsize=16384)
def shard_of(name: str | None) -> int:
    """The shard of an identity; those without a name are together."""
    return blake2b((name or "").encode(), digest_size=4).digest()[3] % SHARDS


def minted(now_ms: int, chance: bytes, shard: int | None = None) -> str:
    """An id that carries its time: 12 hex digits of milliseconds, then ten bytes of `chance`; a shard in the last."""
    return f"{now_ms:012x}{(chance if shard is None else chance[:-1] + bytes([shard])).hex()}"


def minted_ms(id: str) -> int | None:
    """When an id was minted; None for one that a caller made up."""
    found = _MINTED.fullmatch(id)
    return None if found is None else int(found[1], 16)


def minted_shard(id: str) -> int | None:
    """Where to look first for a call of that id; None for an id that a caller made up. It may be elsewhere."""
    found = _MINTED.fullmatch(id)
    return None if found is None else int(found[2], 16) % SHARDS
