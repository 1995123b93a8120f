"""Who waits for room under a throttle cap: in a process first come first served, across processes by polling."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

SHORTEST_MS, LONGEST_MS = 10, 250
"""Between two polls; drawn at random, so that processes do not poll in step."""

BEHIND_MS = 50
"""Between two looks at the line of this process, which cost nothing, at most."""


def pause_ms(frees_in_ms: int, left_ms: int, *, first: bool) -> int:
    """How long to wait for room that is known to come in `frees_in_ms`, or may come at any time (0)."""
    longest = LONGEST_MS if first else BEHIND_MS
    drawn = frees_in_ms + random.randint(0, SHORTEST_MS) if frees_in_ms else random.randint(SHORTEST_MS, longest)  # noqa: S311
    return max(1, min(drawn, left_ms))


class Place:
    """One waiter's place, in the line of every meter that it waits for."""

    def __init__(self, lines: Sequence[deque[Place]]):
        self._lines = lines

    def is_first(self) -> bool:
        return all(line[0] is self for line in self._lines)


class WaitingLine:
    """The lines before the throttle caps of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[str, deque[Place]] = {}

    @contextmanager
    def place(self, meters: Sequence[str]) -> Iterator[Place]:
        """Stand in line for these meters within the block."""
        with self._lock:
            lines = [self._lines.setdefault(meter, deque()) for meter in meters]
            place = Place(lines)
            for line in lines:
                line.append(place)
        try:
            yield place
        finally:
            with self._lock:
                for meter, line in zip(meters, lines, strict=True):
                    line.remove(place)
                    if not line:
                        self._lines.pop(meter, None)

    def __bool__(self) -> bool:
        """Whether anybody waits at all."""
        return bool(self._lines)

    def busy(self, meters: Sequence[str]) -> tuple[str, ...]:
        """Those of these meters for which somebody waits."""
        return tuple([meter for meter in meters if meter in self._lines])
