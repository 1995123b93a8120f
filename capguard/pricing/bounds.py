"""How many tokens a text can have at most and at least, without reading it.

A byte-level vocabulary needs at most a token for each byte of UTF-8, and the longest token of OpenAI's has 128 bytes.
For other tokenizers both are conventions; SentencePiece adds one token before a text.
"""

from __future__ import annotations

import sys

LONGEST_TOKEN = 128
BYTES_PER_TOKEN = 3
"""Expected where nothing is counted: English has 4.3, JSON 3.7, Chinese 3.9 bytes per token, base64 1.5."""

_HEADER = sys.getsizeof("\u20ac" * 100) - 200


def most_bytes(text: str) -> int:
    """At least the bytes of `text` as UTF-8, in constant time.

    CPython stores a text with 1, 2 or 4 bytes for every character, by its widest one; these take at most 2, 3 and 4
    bytes in UTF-8. A copy in UTF-8 that it may carry only raises the bound.
    """
    if text.isascii():
        return len(text)
    stored = sys.getsizeof(text) - _HEADER
    return len(text) * (2 if stored <= len(text) else 3 if stored <= 2 * len(text) else 4)


def least_tokens(text: str) -> int:
    """Fewer tokens than `text` can have, in constant time."""
    return -(-len(text) // LONGEST_TOKEN)
