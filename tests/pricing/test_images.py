"""Images by the provider's own rules, by the size that they carry; nothing is fetched."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import pytest

from capguard.pricing.families import family_of
from capguard.pricing.images import Picture, picture_of


def png(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))


def jpeg(width: int, height: int) -> bytes:
    segment = b"\xff\xe0\x00\x10JFIF\x00" + b"\x00" * 9
    return b"\xff\xd8" + segment + b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03" * 12


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x00" * 10


def webp(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00" + b"\x00" * 4 + size


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("make", [png, jpeg, gif, webp])
def test_an_image_says_its_size(make):
    """From its head, in OpenAI's, Anthropic's and Gemini's shape."""
    data = text(make(640, 480))
    shapes: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": f"data:image/x;base64,{data}"}},
        {"type": "input_image", "image_url": f"data:image/x;base64,{data}"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/x", "data": data}},
        {"inline_data": {"mime_type": "image/x", "data": data}},
    ]
    assert [picture_of(part) for part in shapes] == [Picture(640, 480)] * 4


ODD = ["http://x/y.png", "data:image/png;base64,", "data:image/png;base64,!!!!", "data:image/png;base64,iVBORw0KGgo=",
       "data:image/jpeg;base64,/9j/", "data:," + "A" * 5_000_000]  # fmt: skip


@pytest.mark.parametrize("url", ODD, ids=lambda url: url[:30])
def test_an_image_that_does_not(url: str):
    """Behind a URL, empty, cut off or no image: its size is not known."""
    assert picture_of({"type": "image_url", "image_url": {"url": url}}) == Picture()


def test_low_detail():
    """As OpenAI's two APIs say it."""
    assert picture_of({"type": "image_url", "image_url": {"url": "http://x", "detail": "low"}}).low
    assert picture_of({"type": "input_image", "image_url": "http://x", "detail": "low"}).low


TOKENS = [
    ("gpt-4o", Picture(low=True), 85),
    ("gpt-4o", Picture(512, 512), 85 + 170),
    ("gpt-4o", Picture(1024, 1024), 85 + 4 * 170),  # 768 x 768: OpenAI's own example
    ("gpt-4o", Picture(2048, 4096), 85 + 6 * 170),  # 768 x 1536: OpenAI's own example
    ("gpt-4o", Picture(), 85 + 8 * 170),
    ("gpt-4o-mini", Picture(1024, 1024), 2_833 + 4 * 5_667),
    ("gpt-4.1-mini", Picture(1024, 1024), 1_659),  # 1,024 patches x 1.62
    ("gpt-4.1-nano", Picture(), 3_779),  # 1,536 x 2.46
    ("o4-mini", Picture(32, 32), 2),  # 1 x 1.72
    ("claude-sonnet-4-5", Picture(200, 200), 54),  # Anthropic's own example
    ("claude-sonnet-4-5", Picture(1000, 1000), 1_334),  # Anthropic's own example
    ("claude-sonnet-4-5", Picture(8000, 8000), 1_600),
    ("claude-opus-4-7", Picture(), 5_000),
    ("gemini-2.5-pro", Picture(384, 384), 258),
    ("gemini-2.5-pro", Picture(960, 540), 2 * 258),
    ("mistral-large", Picture(10, 10), 1_600),
]


@pytest.mark.parametrize(("model", "picture", "tokens"), TOKENS)
def test_tokens_of_an_image(model: str, picture: Picture, tokens: int):
    """By published rules and examples; the largest where the size is not known."""
    assert family_of(model).images.tokens(picture) == tokens
