"""A clock that moves when a test says so, for `Guard(..., clock=...)`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class ManualClock:
    """Stands still at an instant until `advance` or `set` moves it. Calling it gives milliseconds since the epoch.

    Whoever waits by it, as calls under a throttle cap do, moves it by as much and goes on at once.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 15, 12, tzinfo=UTC)):
        self.set(start)

    def __call__(self) -> int:
        return self._now_ms

    @property
    def now(self) -> datetime:
        """The instant at which the clock stands."""
        return _EPOCH + self._now_ms * _MILLISECOND

    def advance(self, **duration: float) -> datetime:
        """Move on by a `timedelta`'s arguments: `advance(minutes=5)`. Negative steps back, as a bad clock would."""
        self._now_ms += timedelta(**duration) // _MILLISECOND
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let so much time pass, in no time."""
        self.advance(seconds=seconds)

    async def asleep(self, seconds: float) -> None:
        """As `sleep`; other tasks have a turn."""
        self.advance(seconds=seconds)
        await asyncio.sleep(0)

    def set(self, instant: datetime) -> None:
        """Move to an instant. Raises ValueError for a naive one."""
        if instant.tzinfo is None:
            raise ValueError(f"{instant!r} is naive; allowed: an aware datetime")
        self._now_ms = (instant - _EPOCH) // _MILLISECOND
