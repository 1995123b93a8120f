"""How many tokens a provider bills for an image: by its size where the prompt carries the image itself.

An image behind a URL or an id is never fetched: it counts as the largest that its rule allows.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_HEAD = 65_536  # characters of base64 that are looked at: a JPEG says its size behind its metadata
_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a prompt, in pixels; 0 by 0 where its size is not known. `low`: asked for in low detail."""

    width: int = 0
    height: int = 0
    low: bool = False


@dataclass(frozen=True, slots=True)
class Tiles:
    """OpenAI: fitted into 2,048 square, the shorter side to at most 768, tiles of 512 (platform docs, images)."""

    base: int
    tile: int

    def tokens(self, picture: Picture) -> int:
        if picture.low:
            return self.base
        if not picture.width:
            return self.base + 8 * self.tile
        long, short = max(picture.width, picture.height), min(picture.width, picture.height)
        if long > 2048:
            short, long = -(-short * 2048 // long), 2048
        if short > 768:
            long, short = -(-long * 768 // short), 768
        return self.base + -(-long // 512) * -(-short // 512) * self.tile


@dataclass(frozen=True, slots=True)
class Patches:
    """OpenAI's small models: patches of 32 pixels, at most 1,536, times a factor in percent (platform docs, images)."""

    percent: int

    def tokens(self, picture: Picture) -> int:
        patches = -(-picture.width // 32) * -(-picture.height // 32) or 1536
        return -(-min(patches, 1536) * self.percent // 100)


@dataclass(frozen=True, slots=True)
class Area:
    """Anthropic: a token for 750 pixels, up to a most (docs.anthropic.com, vision)."""

    most: int

    def tokens(self, picture: Picture) -> int:
        return min(-(-picture.width * picture.height // 750) or self.most, self.most)


@dataclass(frozen=True, slots=True)
class Squares:
    """Gemini: 258 tokens up to 384 square, else for each tile of 768 (ai.google.dev, token counting)."""

    unknown: int

    def tokens(self, picture: Picture) -> int:
        if not picture.width:
            return self.unknown
        if max(picture.width, picture.height) <= 384:
            return 258
        return 258 * -(-picture.width // 768) * -(-picture.height // 768)


@dataclass(frozen=True, slots=True)
class Flat:
    """The same for every image."""

    each: int

    def tokens(self, _picture: Picture) -> int:
        return self.each


ImageRule = Tiles | Patches | Area | Squares | Flat


def picture_of(part: Mapping[str, Any]) -> Picture:
    """The image of a content part, in whichever shape an SDK takes it."""
    url = part.get("image_url")
    low = "low" in (part.get("detail"), url.get("detail") if isinstance(url, Mapping) else None)
    data = _data(part)
    width, height = _size(data) if data else (0, 0)
    return Picture(width, height, low)


def _data(value: Any, depth: int = 0) -> str:
    """The first base64 text in a part: a data URL, or Anthropic's and Gemini's `data`."""
    if isinstance(value, str):
        return value[value.find(",") + 1 :][:_HEAD] if value[:5] == "data:" else ""
    if not isinstance(value, Mapping) or depth > _DEEPEST:
        return ""
    bare = value.get("data")
    if isinstance(bare, str) and bare[:5] != "data:":
        return bare[:_HEAD]
    return next((found for each in value.values() if (found := _data(each, depth + 1))), "")


def _size(encoded: str) -> tuple[int, int]:
    """Width and height of a PNG, GIF, WebP or JPEG; 0, 0 where its head does not say."""
    try:
        head = base64.b64decode(encoded[: len(encoded) & ~3], validate=True)
    except (binascii.Error, ValueError):
        return 0, 0
    try:
        return _size_in(head)
    except (struct.error, IndexError):
        return 0, 0


def _size_in(head: bytes) -> tuple[int, int]:
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return struct.unpack(">II", head[16:24])
    if head[:4] == b"GIF8":
        return struct.unpack("<HH", head[6:10])
    if head[:4] == b"RIFF" and head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    return _jpeg_size(head) if head[:2] == b"\xff\xd8" else (0, 0)


def _jpeg_size(head: bytes) -> tuple[int, int]:
    """From the frame header, past the segments before it."""
    place = 2
    while head[place] == 0xFF:
        kind, length = head[place + 1], int.from_bytes(head[place + 2 : place + 4], "big")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", head[place + 5 : place + 9])
            return width, height
        place += 2 + length
    return 0, 0
