"""Windows: how often a cap starts afresh. The grammar, and the period of an instant.

Calendar windows, hourly to yearly and nth_weekday, follow the wall clock of their zone (see `calendar`). `every` and
`rolling` are elapsed time (see `periods`); `every` is cut from 1970-01-01T00:00Z or from the start of a date in the
zone. A zone may stand on every form; it means nothing to `rolling`, `lifetime` and an `every` without a date.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple

from capguard.ledger.calendar import (
    Cycle,
    DayOfMonth,
    LocalCalendar,
    Months,
    NthWeekday,
    Steps,
    first_instant,
    zone_named,
)
from capguard.ledger.periods import FOREVER_MS, Lifetime, Period, Rolling, Rule, Tumbling

__all__ = ["FOREVER_MS", "FORMS", "LATEST_MS", "Period", "Window", "duration_ms", "parse", "resets_at", "zone_named"]

FORMS = (
    "hourly, daily[:HH:MM], weekly[:mon..sun], monthly[:1..31|:last], quarterly[:1..31], yearly[:M-D], "
    "nth_weekday:1..4|last:mon..sun, every:<duration>[/YYYY-MM-DD], rolling:<duration>, lifetime; "
    "each may end in @Zone, an IANA name such as Europe/Paris; a duration is 90s, 15m, 24h, 7d, 2w or a sum "
    "such as 1h30m, from 1s to 366d"
)
"""All allowed windows, for error messages."""

LATEST_MS = 253_000_000_000_000
"""The instants that have a period are those before this one, in 9987: Python's calendar ends with the year 9999."""


@dataclass(frozen=True, slots=True)
class Window:
    """A parsed window. Windows are equal when their canonical texts are.

    `canonical` is the normal form, with its zone where that matters, and parses to the same window: `monthly:1@UTC`,
    `rolling:60s`. `kind` is its first word. `rolling_ms` is the length of a rolling window, else 0.
    """

    canonical: str
    kind: str
    rule: Rule = field(compare=False, repr=False)
    rolling_ms: int = 0
    _last: list[Period] = field(default_factory=lambda: [Period(0, 0, 0)], init=False, compare=False, repr=False)

    def period(self, now_ms: int) -> Period:
        """The period that holds `now_ms`, milliseconds since the epoch. Raises ValueError outside 1970 to 9987."""
        if not 0 <= now_ms < LATEST_MS:
            raise ValueError(f"the instant {now_ms} ms has no period; allowed: 0 (1970) to {LATEST_MS} (9987)")
        last = self._last[0]
        if last.starts_at_ms <= now_ms < last.ends_at_ms:
            return last
        self._last[0] = found = self.rule.period(now_ms)  # one atomic write: at worst two threads compute the same
        return found


def resets_at(window: Window, now_ms: int) -> int | None:
    """The instant, in milliseconds, from which nothing that was spent until `now_ms` counts; None for `lifetime`.

    The end of the period; for `rolling`, the first bucket that no longer looks back to the bucket of `now_ms`.
    """
    if window.kind == "lifetime":
        return None
    period = window.period(now_ms)
    return period.ends_at_ms + period.starts_at_ms - period.since_ms


def parse(text: str, default_zone: str = "UTC") -> Window:
    """The window that `text` names; `default_zone` holds where it names no zone.

    Raises ValueError that tells what was found and all allowed forms, or names the unknown zone.
    """
    for value in (text, default_zone):
        if not isinstance(value, str):
            raise ValueError(f"window: {value!r:.60} is not text; allowed: {FORMS}")
    return _parse(text, default_zone)


def duration_ms(text: str) -> int:
    """A length such as `90s`, `15m`, `24h`, `7d`, `2w` or `1h30m` in milliseconds. Raises ValueError."""
    match = _DURATION.fullmatch(text.lower())
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0,) * 5
    length = ((weeks * 7 + days) * 24 + hours) * 3600 + minutes * 60 + seconds
    if not 1 <= length <= 366 * 86400:
        raise ValueError(f"{text!r:.60} is no duration from 1s to 366d")
    return length * 1000


@lru_cache(maxsize=4096)
def _parse(text: str, default_zone: str) -> Window:
    head, at, named = text.partition("@")
    keyword, colon, tail = head.lower().partition(":")
    try:
        place = _Place(*zone_named(named if at else default_zone))
        if not text.isascii() or keyword not in _FORMS or (colon and not tail):
            raise ValueError("no such window")
        pattern, build = _FORMS[keyword]
        match = re.fullmatch(pattern, tail)
        if match is None:
            raise ValueError(f"{tail!r:.60} is not allowed after {keyword}")
        return build(place, *match.groups())
    except ValueError as error:
        raise ValueError(f"window {text!r:.60}: {error}; allowed: {FORMS}") from None


class _Place(NamedTuple):
    """A zone and its name."""

    name: str
    zone: tzinfo

    def calendar(self, form: str, cycle: Cycle) -> Window:
        return Window(f"{form}@{self.name}", form.partition(":")[0], LocalCalendar(cycle, self.zone))


def _hourly(place: _Place) -> Window:
    return place.calendar("hourly", Steps(timedelta(hours=1), _WALL_1970))


def _daily(place: _Place, hour: str | None, minute: str | None) -> Window:
    start = timedelta(hours=int(hour or 0), minutes=int(minute or 0))
    form = f"daily:{int(hour or 0):02}:{int(minute or 0):02}"
    return place.calendar(form, Steps(timedelta(days=1), _WALL_1970 + start))


def _weekly(place: _Place, weekday: str) -> Window:
    monday = _WALL_1970 + timedelta(days=4)
    days = timedelta(days=_WEEKDAYS.index(weekday or "mon"))
    return place.calendar(f"weekly:{weekday or 'mon'}", Steps(timedelta(weeks=1), monday + days))


def _monthly(place: _Place, day: str) -> Window:
    number = 31 if day == "last" else int(day or 1)
    return place.calendar(f"monthly:{'last' if number == 31 else number}", Months(1, 0, DayOfMonth(number)))


def _quarterly(place: _Place, day: str) -> Window:
    return place.calendar(f"quarterly:{int(day or 1)}", Months(3, 0, DayOfMonth(int(day or 1))))


def _yearly(place: _Place, month: str | None, day: str | None) -> Window:
    start = date(2000, int(month or 1), int(day or 1))  # a leap year: 2-29 is allowed, and clamped in the others
    return place.calendar(f"yearly:{start.month}-{start.day}", Months(12, start.month - 1, DayOfMonth(start.day)))


def _nth_weekday(place: _Place, nth: str, weekday: str) -> Window:
    day = NthWeekday(0 if nth == "last" else int(nth), _WEEKDAYS.index(weekday))
    return place.calendar(f"nth_weekday:{nth}:{weekday}", Months(1, 0, day))


def _every(place: _Place, length: str, anchor: str | None) -> Window:
    length_ms = duration_ms(length)
    form = f"every:{length_ms // 1000}s"
    start = first_instant(datetime.fromisoformat(anchor), place.zone) * 1000 if anchor else 0
    if start % length_ms == 0:  # the same cut as from the epoch
        return Window(form, "every", Tumbling(length_ms))
    return Window(f"{form}/{anchor}@{place.name}", "every", Tumbling(length_ms, start))


def _rolling(_: _Place, length: str) -> Window:
    length_ms = duration_ms(length)
    return Window(f"rolling:{length_ms // 1000}s", "rolling", Rolling(length_ms), length_ms)


def _lifetime(_: _Place) -> Window:
    return Window("lifetime", "lifetime", Lifetime())


_WALL_1970 = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock time, in no zone yet
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DURATION = re.compile("".join(f"(?:([0-9]{{1,8}}){unit})?" for unit in "wdhms"))
_WEEKDAY = f"({'|'.join(_WEEKDAYS)})"
_DAY = "0?[1-9]|[12][0-9]|3[01]"
_FORMS: dict[str, tuple[str, Callable[..., Window]]] = {
    "hourly": ("", _hourly),
    "daily": ("(?:([01]?[0-9]|2[0-3]):([0-5][0-9]))?", _daily),
    "weekly": (f"{_WEEKDAY}?", _weekly),
    "monthly": (f"({_DAY}|last)?", _monthly),
    "quarterly": (f"({_DAY})?", _quarterly),
    "yearly": (f"(?:(0?[1-9]|1[0-2])-({_DAY}))?", _yearly),
    "nth_weekday": (f"([1-4]|last):{_WEEKDAY}", _nth_weekday),
    "every": ("([^/]+)(?:/((?:19[789]|[2-9][0-9]{2})[0-9]-[0-9]{2}-[0-9]{2}))?", _every),
    "rolling": ("(.+)", _rolling),
    "lifetime": ("", _lifetime),
}
