"""Passing a body of server-sent events on: without the usage that only we asked for, and with its end noticed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LONGEST = 16 * 2**20
_DONE = b"data: [DONE]"


class Passing:
    """`feed(bytes)` gives what goes on to the reader. With `hide`, the event that carries only usage stays behind.

    `done` is true once the provider has said that nothing more comes.
    """

    def __init__(self, *, hide: bool):
        self.done = False
        self._hide = hide
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Whole events of `data` and what was kept; all of it where nothing is hidden."""
        seen = self._rest + data
        self.done = self.done or seen.rstrip().endswith(_DONE)
        if not self._hide:
            self._rest = seen[-len(_DONE) - 4 :]
            return data
        passed, self._rest = self._split(seen)
        return passed

    def tail(self) -> bytes:
        """What is left when the body ends in the middle of an event."""
        return self._rest if self._hide else b""

    def _split(self, seen: bytes) -> tuple[bytes, bytes]:
        at = 0
        passed = []
        for end in _END.finditer(seen):
            event = seen[at : end.end()]
            at = end.end()
            if not _is_usage_alone(event):
                passed.append(event)
        rest = seen[at:]
        if len(rest) > _LONGEST:  # no event of a model: let it through rather than keep it
            return b"".join((*passed, rest)), b""
        return b"".join(passed), rest


def _is_usage_alone(event: bytes) -> bool:
    """Whether an event is the one that `stream_options` adds: no choices, and the usage of the whole stream."""
    if b'"usage"' not in event:
        return False
    return any(chunk.get("choices") == [] and bool(chunk.get("usage")) for chunk in _chunks(event))


def _chunks(event: bytes) -> Iterator[dict[str, object]]:
    for line in event.splitlines():
        try:
            chunk = json.loads(line[5:]) if line.startswith(b"data:") else None
        except ValueError:
            continue
        if isinstance(chunk, dict):
            yield chunk
