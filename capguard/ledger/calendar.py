"""Periods of the local calendar: the wall clock of a zone, turned into whole milliseconds since the epoch.

One rule covers every shift of a clock. A boundary, say midnight of the 1st, is the first instant at which the local
clock shows that time or a later one. So a midnight that a zone skips starts its day at the first valid instant, a time
that comes twice counts at its first coming, a day that does not exist has no period, and the hour that is repeated in
autumn is one period of two hours. Boundaries never go back, so every instant lies in exactly one period.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo, available_timezones

from capguard.ledger.periods import Period

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class Cycle(Protocol):
    """A regular series of local times, numbered in order."""

    def index(self, local: datetime) -> int:
        """The number of the last one that is not after `local`."""

    def start(self, index: int) -> datetime:
        """The local time with this number; it need not exist on the clock of every zone."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Hours, days, weeks: every `step` on the wall clock, counted from `origin`."""

    step: timedelta
    origin: datetime

    def index(self, local: datetime) -> int:
        return (local - self.origin) // self.step

    def start(self, index: int) -> datetime:
        return self.origin + index * self.step


@dataclass(frozen=True, slots=True)
class DayOfMonth:
    """This day, or the last one of a month that is shorter."""

    day: int

    def in_month(self, year: int, month: int) -> int:
        return min(self.day, monthrange(year, month)[1])


@dataclass(frozen=True, slots=True)
class NthWeekday:
    """The `nth` (1..4) of a weekday (0 is Monday), or with 0 the last one."""

    nth: int
    weekday: int

    def in_month(self, year: int, month: int) -> int:
        first_weekday, length = monthrange(year, month)
        first = 1 + (self.weekday - first_weekday) % 7
        return first + 7 * (self.nth - 1) if self.nth else first + (length - first) // 7 * 7


@dataclass(frozen=True, slots=True)
class Months:
    """A day in every `step`-th month; `offset` is the first of these months of a year, 0 for January."""

    step: int
    offset: int
    day: DayOfMonth | NthWeekday

    def index(self, local: datetime) -> int:
        index = (local.year * 12 + local.month - 1 - self.offset) // self.step
        return index if self.start(index) <= local else index - 1

    def start(self, index: int) -> datetime:
        year, month = divmod(index * self.step + self.offset, 12)
        return datetime(year, month + 1, self.day.in_month(year, month + 1))  # noqa: DTZ001 - a wall clock time


@dataclass(frozen=True, slots=True)
class LocalCalendar:
    """The periods between two starts of `cycle` on the wall clock of `zone`."""

    cycle: Cycle
    zone: tzinfo

    def period(self, now_ms: int) -> Period:
        index = self.cycle.index(_wall_clock(now_ms // 1000, self.zone))
        while (ends := self._boundary(index + 1)) <= now_ms:  # the clock went back over a boundary it had passed
            index += 1
        starts = self._boundary(index)
        return Period(starts, ends, starts)

    def _boundary(self, index: int) -> int:
        return first_instant(self.cycle.start(index), self.zone) * 1000


def zone_named(name: str) -> tuple[str, tzinfo]:
    """The zone, and its name as IANA spells it. UTC needs no time zone data. Raises ValueError for unknown names."""
    if name.lower() == "utc":
        return "UTC", UTC
    zones = _zones()
    if not zones:
        raise ValueError(f"the zone {name!r:.60} needs time zone data and this machine has none; install tzdata")
    if name.lower() not in zones:
        raise ValueError(f"unknown time zone {name!r:.60}")
    return zones[name.lower()], ZoneInfo(zones[name.lower()])


@lru_cache(maxsize=1)
def _zones() -> dict[str, str]:
    """Lower-case name to name, without the two that mean another thing on every machine."""
    return {name.lower(): name for name in available_timezones() - {"localtime", "Factory"}}


def first_instant(local: datetime, zone: tzinfo) -> int:
    """The first second since the epoch at which the clock of `zone` shows the naive time `local` or later."""
    usual, other = (_seconds(local.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    # A skipped time alone gives the later instant for fold=0 (PEP 495); the shift then lies between the two.
    while usual - other > 1:
        middle = (usual + other) // 2
        if _wall_clock(middle, zone) < local:
            other = middle
        else:
            usual = middle
    return usual


def _seconds(local: datetime) -> int:
    return (local.replace(tzinfo=UTC) - _EPOCH - (local.utcoffset() or timedelta())) // _SECOND


def _wall_clock(seconds: int, zone: tzinfo) -> datetime:
    return (_EPOCH + timedelta(seconds=seconds)).astimezone(zone).replace(tzinfo=None)
