"""Texts that were counted before: their numbers of tokens by a hash, so that a chat's history is counted once."""

from __future__ import annotations

from hashlib import sha256

GENERATION = 16_384
"""Counts in one generation, some 3 MiB; two are kept."""

SHORTEST = 256
"""Characters below which counting is as quick as hashing."""

Key = tuple[str, bytes]
Tokens = tuple[int, int]


class Seen:
    """Counts by vocabulary and text. No text is kept, only the 32 bytes of its hash.

    Two generations: what was asked for since the last change is in the young one. One dict access each, which needs no
    lock.
    """

    def __init__(self) -> None:
        self._young: dict[Key, Tokens] = {}
        self._old: dict[Key, Tokens] = {}

    def find(self, key: Key) -> Tokens | None:
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: Key, tokens: Tokens) -> None:
        if len(self._young) >= GENERATION:
            self._old, self._young = self._young, {}
        self._young[key] = tokens

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


def key_of(vocabulary: str, text: str) -> Key:
    """sha256: twice as quick as blake2b where the processor knows it, as most do."""
    return vocabulary, sha256(text.encode()).digest()
