"""Periods of elapsed time, in whole milliseconds since the epoch: tumbling, rolling, and the one that never ends.

Clock shifts mean nothing here: `every:24h` is not `daily`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

FOREVER_MS = 2**53 - 1
"""The end of a period that does not end: the largest integer that is exact in a double."""


class Period(NamedTuple):
    """One instance of a window, [starts_at_ms, ends_at_ms), in milliseconds since the epoch.

    `since_ms` is the start of the first period whose meter still counts. It differs from `starts_at_ms` only in
    rolling windows, whose periods are buckets.
    """

    starts_at_ms: int
    ends_at_ms: int
    since_ms: int


class Rule(Protocol):
    """How time is cut into periods."""

    def period(self, now_ms: int) -> Period:
        """The period that holds `now_ms`."""


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Equal lengths side by side, one of them starting at `anchor_ms`."""

    length_ms: int
    anchor_ms: int = 0

    def period(self, now_ms: int) -> Period:
        starts = now_ms - (now_ms - self.anchor_ms) % self.length_ms
        return Period(starts, starts + self.length_ms, starts)


@dataclass(frozen=True, slots=True)
class Rolling:
    """Buckets of 1/60 of the length, rounded up to whole milliseconds, at least 1 s, aligned to the epoch.

    A bucket counts whole for as long as any of it can lie in the last `length_ms`, judged from the start of the current
    bucket. So no interval of that length ever holds more than was counted, and at most 61 buckets are alive. What was
    spent counts for at least the length and for less than two buckets more.
    """

    length_ms: int

    @property
    def width_ms(self) -> int:
        return max(1000, -(-self.length_ms // 60))

    @property
    def reach_ms(self) -> int:
        """From the start of the oldest bucket that counts to the start of the current one."""
        return -(-(self.length_ms - 1) // self.width_ms) * self.width_ms

    def period(self, now_ms: int) -> Period:
        starts = now_ms - now_ms % self.width_ms
        return Period(starts, starts + self.width_ms, starts - self.reach_ms)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """One period from the epoch on."""

    def period(self, now_ms: int) -> Period:  # noqa: ARG002 - there is only one
        return Period(0, FOREVER_MS, 0)
