"""Server-sent events out of a body that arrives in arbitrary pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

LONGEST_LINE = 16 * 2**20
"""Bytes. A longer line is no event of a model; it is given up rather than kept in memory."""

_DATA = b"data:"
_FIELDS = (b"event:", b"id:", b"retry:", b":")
DONE = "[DONE]"


class SSEReader:
    """`feed(bytes)` yields what the complete lines carry: decoded JSON, or a str for text that is no JSON.

    A body that is no event stream comes out as its text.
    """

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """The payloads of all lines that `data` completes."""
        newline = data.rfind(b"\n")
        if newline < 0:
            self._keep(data)
            return
        complete = bytes(self._rest) + data[: newline + 1]
        self._rest.clear()
        self._keep(data[newline + 1 :])
        for line in complete.splitlines(keepends=True):
            yield from _payload(line)

    def tail(self) -> str:
        """The text of the last line, which nothing has ended yet, if the body is plain text. It stays where it is."""
        rest = bytes(self._rest)
        begun = any(field.startswith(rest[: len(field)]) for field in (_DATA, *_FIELDS))
        return "" if begun else rest.decode("utf-8", "replace")

    def _keep(self, data: bytes) -> None:
        if len(self._rest) + len(data) > LONGEST_LINE:
            self._rest.clear()
        else:
            self._rest += data


def _payload(line: bytes) -> Iterator[Any]:
    if not line.strip() or line.startswith(_FIELDS):
        return
    if not line.startswith(_DATA):
        yield line.decode("utf-8", "replace")
        return
    text = line.removeprefix(_DATA).strip().decode("utf-8", "replace")
    try:
        yield json.loads(text)
    except ValueError:
        yield text
