"""The names of the keys of one ledger, and which bucket a row is in. No name of a person is ever part of a key."""

from __future__ import annotations

import struct
from functools import lru_cache

from capguard.ledger.caps import short_digest

ROOT = "cg1"
"""The first part of every key: with the schema's version, so that two versions never meet in one store."""

FIXED = ("meta", "open", "due", "log", "users", "policies", "refused", "alerts")
"""The keys that every script is given, in this order; the buckets follow (see lua/store.lua)."""


class Keys:
    """The keys of a namespace: all in one hash slot, so that one script may touch them all."""

    def __init__(self, namespace: str):
        self.prefix = f"{ROOT}:{{{namespace}}}:"
        self.fixed = tuple(self.prefix + name for name in FIXED)
        self.meta, self.open, self.due, self.log, self.users, self.policies, *_ = self.fixed

    @lru_cache(maxsize=4096)  # noqa: B019 - a process has few ledgers, and keeps them
    def placed(self, rows: tuple[str, ...], size: int) -> tuple[tuple[str, ...], bytes]:
        """The keys of a step that touches these rows, and which of them is each row's, two bytes each."""
        numbers = [bucket_of(row, size) for row in rows]
        place = {number: len(FIXED) + 1 + at for at, number in enumerate(dict.fromkeys(numbers))}
        keys = (*self.fixed, *(self.bucket(number) for number in place))
        return keys, struct.pack(f">{len(rows)}H", *(place[number] for number in numbers))

    def placed_with(self, own: str, rows: tuple[str, ...], size: int) -> tuple[tuple[str, ...], bytes]:
        """As `placed`, with a row before them that comes once only: that of an id."""
        keys, places = self.placed(rows, size)
        bucket = self.bucket(bucket_of(own, size))
        if bucket in keys:
            return keys, struct.pack(">H", keys.index(bucket) + 1) + places
        return (*keys, bucket), struct.pack(">H", len(keys) + 1) + places

    def bucket(self, number: int) -> str:
        return f"{self.prefix}b:{number}"


@lru_cache(maxsize=16384)
def row_of(id: str) -> str:
    """The row of an ended reservation: 19 characters."""
    return short_digest(id)


def bucket_of(row: str, size: int) -> int:
    """Linear hashing: of `size` buckets, those that were divided in this round take half of the rows of the others."""
    half = 1 << (size.bit_length() - 1)
    number = int(row[:8], 16) & (2 * half - 1)
    return number if number < size else number - half
