"""Windows: an instant lies in exactly one period, in every zone, and bad windows are refused with all allowed forms."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capguard.ledger.windows import FOREVER_MS, FORMS, LATEST_MS, Period, Window, duration_ms, parse, resets_at

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END_2100 = int((datetime(2101, 1, 1, tzinfo=UTC) - EPOCH).total_seconds())
HOUR, DAY = 3600, 86400
ZONES = sorted(available_timezones() - {"localtime", "Factory"})
CALENDAR_FORMS = [
    "hourly", "daily", "daily:02:30", "daily:23:59", "weekly", "weekly:sun", "monthly", "monthly:15", "monthly:31",
    "quarterly", "quarterly:31", "yearly", "yearly:2-29", "yearly:12-31", "nth_weekday:1:mon", "nth_weekday:4:thu",
    "nth_weekday:last:fri",
]  # fmt: skip
ELAPSED_FORMS = [
    "every:1s", "every:7d", "every:1h30m/2024-03-31", "rolling:1s", "rolling:61s", "rolling:7d", "rolling:366d",
]  # fmt: skip


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def wall(seconds: int, zone: str) -> datetime:
    return (EPOCH + timedelta(seconds=seconds)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


NAMED = {
    "a day of 24 hours": ("daily", "2026-05-05T12:00", "2026-05-05T00:00", "2026-05-06T00:00"),
    "the first millisecond": ("daily", "2026-05-05T00:00", "2026-05-05T00:00", "2026-05-06T00:00"),
    "before the hour of the day": ("daily:09:30", "2026-05-05T09:29", "2026-05-04T09:30", "2026-05-05T09:30"),
    "23 hours": ("daily@America/New_York", "2025-03-09T12:00", "2025-03-09T05:00", "2025-03-10T04:00"),
    "25 hours": ("daily@Europe/Berlin", "2025-10-26T12:00", "2025-10-25T22:00", "2025-10-26T23:00"),
    "no midnight, Cairo": ("daily@Africa/Cairo", "2026-04-24T10:00", "2026-04-23T22:00", "2026-04-24T21:00"),
    "no midnight, Beirut": ("daily@Asia/Beirut", "2026-03-29T10:00", "2026-03-28T22:00", "2026-03-29T21:00"),
    "no midnight, Sao Paulo": ("daily@America/Sao_Paulo", "2018-11-04T10:00", "2018-11-04T03:00", "2018-11-05T02:00"),
    "no 02:30, Paris": ("daily:02:30@Europe/Paris", "2025-03-30T10:00", "2025-03-30T01:00", "2025-03-31T00:30"),
    "two 02:30, Paris": ("daily:02:30@Europe/Paris", "2025-10-26T01:10", "2025-10-26T00:30", "2025-10-27T01:30"),
    "before the day that is no day, Apia": (
        "daily@Pacific/Apia", "2011-12-30T09:59", "2011-12-29T10:00", "2011-12-30T10:00"
    ),
    "after the day that is no day, Apia": (
        "daily@Pacific/Apia", "2011-12-30T10:00", "2011-12-30T10:00", "2011-12-31T10:00"
    ),
    "a month from a day that is no day": (
        "monthly:30@Pacific/Apia", "2012-01-01T00:00", "2011-12-30T10:00", "2012-01-29T10:00"
    ),
    "midnight twice, St Johns": ("daily@America/St_Johns", "2010-11-07T02:45", "2010-11-07T02:30", "2010-11-08T03:30"),
    "an offset in seconds, Monrovia": (
        "daily@Africa/Monrovia", "1970-01-01T12:00", "1970-01-01T00:44:30", "1970-01-02T00:44:30"
    ),
    "hours of +05:45": ("hourly@Asia/Kathmandu", "2025-06-01T12:00", "2025-06-01T11:15", "2025-06-01T12:15"),
    "the repeated hour is one period": (
        "hourly@America/New_York", "2025-11-02T06:30", "2025-11-02T05:00", "2025-11-02T07:00"
    ),
    "the skipped hour is none": ("hourly@America/New_York", "2025-03-09T07:00", "2025-03-09T07:00", "2025-03-09T08:00"),
    "a repeated half hour": ("hourly@Australia/Lord_Howe", "2025-04-05T15:10", "2025-04-05T14:00", "2025-04-05T15:30"),
    "week over the year end": ("weekly", "2021-01-02T00:00", "2020-12-28T00:00", "2021-01-04T00:00"),
    "week from Sunday": ("weekly:sun", "2026-05-05T00:00", "2026-05-03T00:00", "2026-05-10T00:00"),
    "month of 28 days": ("monthly", "2025-02-10T00:00", "2025-02-01T00:00", "2025-03-01T00:00"),
    "month of 31 days": ("monthly", "2025-12-31T23:59", "2025-12-01T00:00", "2026-01-01T00:00"),
    "month in Tokyo": ("monthly@Asia/Tokyo", "2025-12-31T16:00", "2025-12-31T15:00", "2026-01-31T15:00"),
    "the 31st on 1 April": ("monthly:31", "2025-04-01T00:00", "2025-03-31T00:00", "2025-04-30T00:00"),
    "the 31st on 1 February": ("monthly:31", "2025-02-01T00:00", "2025-01-31T00:00", "2025-02-28T00:00"),
    "the 31st on 1 March": ("monthly:31", "2025-03-01T00:00", "2025-02-28T00:00", "2025-03-31T00:00"),
    "the 30th in a leap February": ("monthly:30", "2024-02-29T00:00", "2024-02-29T00:00", "2024-03-30T00:00"),
    "the last day": ("monthly:last", "2024-02-28T00:00", "2024-01-31T00:00", "2024-02-29T00:00"),
    "quarter": ("quarterly", "2025-12-31T00:00", "2025-10-01T00:00", "2026-01-01T00:00"),
    "quarter from the 31st": ("quarterly:31", "2025-04-29T00:00", "2025-01-31T00:00", "2025-04-30T00:00"),
    "year": ("yearly", "2024-12-31T00:00", "2024-01-01T00:00", "2025-01-01T00:00"),
    "year from 1 July": ("yearly:7-1", "2025-06-30T00:00", "2024-07-01T00:00", "2025-07-01T00:00"),
    "29 February": ("yearly:2-29", "2024-02-28T00:00", "2023-02-28T00:00", "2024-02-29T00:00"),
    "second Tuesday": ("nth_weekday:2:tue", "2026-05-12T00:00", "2026-05-12T00:00", "2026-06-09T00:00"),
    "fourth Friday": ("nth_weekday:4:fri", "2026-05-23T00:00", "2026-05-22T00:00", "2026-06-26T00:00"),
    "last Friday of five": ("nth_weekday:last:fri", "2026-05-23T00:00", "2026-04-24T00:00", "2026-05-29T00:00"),
    "90 minutes from the epoch": ("every:90m", "1970-01-02T00:10", "1970-01-02T00:00", "1970-01-02T01:30"),
    "two weeks from a date": ("every:2w/2024-01-01", "2024-01-20T00:00", "2024-01-15T00:00", "2024-01-29T00:00"),
    "before the anchor": ("every:2w/2024-01-01", "2023-12-31T00:00", "2023-12-18T00:00", "2024-01-01T00:00"),
    "elapsed time takes no notice of shifts": (
        "every:1d/2025-03-09@America/New_York", "2025-03-10T04:30", "2025-03-09T05:00", "2025-03-10T05:00"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "now", "starts", "ends"), NAMED.values(), ids=NAMED)
def test_period_of_an_instant(text: str, now: str, starts: str, ends: str) -> None:
    """The known hard instants of the calendar lie where a person would put them."""
    assert parse(text).period(ms(now)) == Period(ms(starts), ms(ends), ms(starts))


def test_lifetime_is_one_period() -> None:
    assert parse("lifetime").period(ms("2026-05-05")) == Period(0, FOREVER_MS, 0)
    assert resets_at(parse("lifetime"), ms("2026-05-05")) is None


# every instant lies in exactly one period (P11)


def check_partition(window: Window, now: int) -> None:
    here = window.period(now)
    assert here.starts_at_ms <= now < here.ends_at_ms
    following = window.period(here.ends_at_ms)
    assert following.starts_at_ms == here.ends_at_ms < following.ends_at_ms
    assert window.period(here.ends_at_ms - 1) == here
    if here.starts_at_ms > 0:
        before = window.period(here.starts_at_ms - 1)
        assert before.starts_at_ms < before.ends_at_ms == here.starts_at_ms
        assert window.period(here.starts_at_ms) == here
    if not window.rolling_ms:
        assert here.since_ms == here.starts_at_ms
        assert resets_at(window, now) == here.ends_at_ms


@cache
def transition(zone: str, near: int) -> int:
    """A second at which the clock of `zone` is set, within 200 days after `near`; `near` where it stands still."""
    offset = wall(near, zone) - wall(near, "UTC")
    low, high = near, near + 200 * DAY
    if wall(high, zone) - wall(high, "UTC") == offset:
        return near
    while high - low > 1:
        middle = (low + high) // 2
        if wall(middle, zone) - wall(middle, "UTC") == offset:
            low = middle
        else:
            high = middle
    return high


@st.composite
def zones_and_instants(draw: st.DrawFn) -> tuple[str, int]:
    """A zone and a millisecond of 1970-2100, half of them within a day or two of a clock shift."""
    zone = draw(st.sampled_from(ZONES))
    seconds = draw(st.integers(2 * DAY, END_2100 - 202 * DAY))
    if draw(st.booleans()):
        seconds = transition(zone, seconds) + draw(st.integers(-30 * HOUR, 30 * HOUR))
    return zone, seconds * 1000 + draw(st.integers(0, 999))


@settings(max_examples=600, deadline=None)
@given(form=st.sampled_from(CALENDAR_FORMS + ELAPSED_FORMS), place=zones_and_instants())
def test_every_instant_lies_in_exactly_one_period(form: str, place: tuple[str, int]) -> None:
    zone, now = place
    check_partition(parse(f"{form}@{zone}"), now)


@pytest.mark.parametrize("form", CALENDAR_FORMS)
def test_every_zone_around_a_clock_shift(form: str) -> None:
    """No zone is left to chance: periods join without gap or overlap on both sides of a shift."""
    for zone in ZONES:
        shift = transition(zone, ms("2026-01-10") // 1000) * 1000
        window = parse(f"{form}@{zone}")
        check_partition(window, shift)
        check_partition(window, shift - 1)


def shifted(local: datetime, days: int) -> date:
    return (local + timedelta(days=days)).date()


KEYS: dict[str, Callable[[datetime], Any]] = {
    "hourly": lambda local: (local.date(), local.hour),
    "daily": lambda local: local.date(),
    "daily:23:59": lambda local: (local + timedelta(minutes=1)).date(),
    "weekly": lambda local: local.isocalendar()[:2],
    "weekly:sun": lambda local: shifted(local, 1).isocalendar()[:2],
    "monthly": lambda local: (local.year, local.month),
    "monthly:15": lambda local: local.year * 12 + local.month - (local.day < 15),
    "monthly:last": lambda local: (shifted(local, 1).year, shifted(local, 1).month),
    "quarterly": lambda local: (local.year, (local.month - 1) // 3),
    "yearly": lambda local: local.year,
    "yearly:12-31": lambda local: shifted(local, 1).year,
}


@settings(max_examples=600, deadline=None)
@given(form=st.sampled_from(sorted(KEYS)), place=zones_and_instants(), share=st.floats(0, 1))
def test_a_period_starts_when_the_clock_first_shows_its_calendar_key(
    form: str, place: tuple[str, int], share: float
) -> None:
    """An oracle by the wall clock: the key grows at each start, and nothing inside a period shows a later one."""
    zone, now = place

    def key(seconds: int) -> Any:
        return KEYS[form](wall(seconds, zone))

    starts, ends = (edge // 1000 for edge in parse(f"{form}@{zone}").period(now)[:2])
    assert key(starts - 1) < key(starts) < key(ends)
    assert key(ends - 1) <= key(starts)
    assert key(min(ends - 1, starts + int((ends - starts) * share))) <= key(starts)


@settings(max_examples=60, deadline=None)
@given(form=st.sampled_from(CALENDAR_FORMS + ELAPSED_FORMS), place=zones_and_instants())
def test_periods_follow_each_other(form: str, place: tuple[str, int]) -> None:
    zone, now = place
    window = parse(f"{form}@{zone}")
    periods = [window.period(now)]
    for _ in range(40):
        periods.append(window.period(periods[-1].ends_at_ms))
    assert all(one.starts_at_ms < one.ends_at_ms == two.starts_at_ms for one, two in pairwise(periods))


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the host zone cannot be set here")
@pytest.mark.parametrize("host", ["America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati"])
def test_the_zone_of_the_host_means_nothing(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, now, starts, ends = NAMED["25 hours"]
    monkeypatch.setenv("TZ", host)
    time.tzset()
    try:
        assert parse(text).rule.period(ms(now)) == Period(ms(starts), ms(ends), ms(starts))
    finally:
        monkeypatch.undo()
        time.tzset()


# rolling


@pytest.mark.parametrize(
    ("text", "width", "reach"),
    [
        ("rolling:1s", 1000, 1000),
        ("rolling:60s", 1000, 60_000),
        ("rolling:61s", 1017, 61_020),
        ("rolling:24h", 1_440_000, 86_400_000),
        ("rolling:366d", 527_040_000, 366 * DAY * 1000),
    ],
)
def test_rolling_buckets(text: str, width: int, reach: int) -> None:
    """The width is 1/60 of the length, rounded up, at least a second; the oldest partial bucket counts."""
    period = parse(text).period(ms("2026-05-05T12:00"))
    assert period.ends_at_ms - period.starts_at_ms == width
    assert period.starts_at_ms - period.since_ms == reach
    assert period.starts_at_ms % width == 0


LENGTHS = st.one_of(st.integers(1, 200), st.integers(1, 366 * DAY))


@settings(max_examples=300, deadline=None)
@given(seconds=LENGTHS, now=st.integers(0, END_2100 * 1000))
def test_a_rolling_bucket_counts_for_the_length_and_less_than_two_buckets_more(seconds: int, now: int) -> None:
    """`resets_at` is exact: one millisecond earlier the bucket still counts."""
    window = parse(f"rolling:{seconds}s")
    here = window.period(now)
    width = here.ends_at_ms - here.starts_at_ms
    resets = resets_at(window, now)
    assert resets is not None
    assert window.period(resets).since_ms > here.starts_at_ms >= window.period(resets - 1).since_ms
    assert here.ends_at_ms - 1 + window.rolling_ms <= resets < here.starts_at_ms + window.rolling_ms + 2 * width
    assert (here.starts_at_ms - here.since_ms) // width + 1 <= 61
    assert (here.starts_at_ms - here.since_ms) % width == 0


SPENDS = st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 40)), min_size=1, max_size=80)


@settings(max_examples=200, deadline=None)
@given(seconds=st.integers(1, 150), start=st.integers(0, 10**12), spends=SPENDS)
def test_no_interval_of_the_length_exceeds_the_limit(seconds: int, start: int, spends: list[tuple[int, int]]) -> None:
    """Spends are admitted by the buckets that count; then every interval of the length stays within the limit."""
    window, limit, now = parse(f"rolling:{seconds}s"), 100, start
    buckets: dict[int, int] = {}
    admitted: list[tuple[int, int]] = []
    for gap, amount in spends:
        now += gap
        period = window.period(now)
        if amount + sum(spent for at, spent in buckets.items() if at >= period.since_ms) <= limit:
            buckets[period.starts_at_ms] = buckets.get(period.starts_at_ms, 0) + amount
            admitted.append((now, amount))
    for end, _ in admitted:
        assert sum(amount for at, amount in admitted if end - window.rolling_ms < at <= end) <= limit


# the grammar

SAME = [
    ("hourly", "hourly@UTC"),
    ("HOURLY@utc", "hourly@UTC"),
    ("daily", "daily:00:00@UTC"),
    ("Daily:9:05@europe/PARIS", "daily:09:05@Europe/Paris"),
    ("weekly", "weekly:mon@UTC"),
    ("weekly:SUN", "weekly:sun@UTC"),
    ("monthly", "monthly:1@UTC"),
    ("monthly:01", "monthly:1@UTC"),
    ("monthly:31", "monthly:last@UTC"),
    ("monthly:last", "monthly:last@UTC"),
    ("quarterly", "quarterly:1@UTC"),
    ("quarterly:31", "quarterly:31@UTC"),
    ("yearly", "yearly:1-1@UTC"),
    ("yearly:07-01", "yearly:7-1@UTC"),
    ("yearly:2-29", "yearly:2-29@UTC"),
    ("nth_weekday:4:fri", "nth_weekday:4:fri@UTC"),
    ("nth_weekday:last:fri", "nth_weekday:last:fri@UTC"),
    ("every:1h30m", "every:5400s"),
    ("every:90m@Europe/Paris", "every:5400s"),
    ("every:1h/2024-01-01", "every:3600s"),
    ("every:7d/2024-01-01", "every:604800s/2024-01-01@UTC"),
    ("every:1w/2024-01-01@Asia/Tokyo", "every:604800s/2024-01-01@Asia/Tokyo"),
    ("rolling:1m", "rolling:60s"),
    ("rolling:60S@Asia/Tokyo", "rolling:60s"),
    ("rolling:366d", "rolling:31622400s"),
    ("lifetime", "lifetime"),
    ("lifetime@Asia/Tokyo", "lifetime"),
]


@pytest.mark.parametrize(("text", "canonical"), SAME)
def test_two_spellings_of_one_window_have_one_form(text: str, canonical: str) -> None:
    window = parse(text)
    assert window.canonical == canonical
    assert window.kind == canonical.partition(":")[0].partition("@")[0]
    assert window == parse(canonical) == pickle.loads(pickle.dumps(window))
    assert hash(window) == hash(parse(canonical))
    assert parse(canonical).canonical == canonical


def test_the_default_zone_gives_way_to_a_named_one() -> None:
    assert parse("daily", "Asia/Tokyo").canonical == "daily:00:00@Asia/Tokyo"
    assert parse("daily@UTC", "Asia/Tokyo").canonical == "daily:00:00@UTC"
    assert parse("every:1w/2024-01-01", "Asia/Tokyo").canonical == "every:604800s/2024-01-01@Asia/Tokyo"


def test_rolling_ms_is_0_unless_rolling() -> None:
    assert parse("rolling:1h30m").rolling_ms == 5_400_000
    assert parse("every:1h30m").rolling_ms == 0


REFUSED = [
    "month", "1mo", "30d", "1month", "minutely", "daily:", "daily:24:00", "daily:12", "daily:12:60", "daily:-1:00",
    "daily:12:30:00", "hourly:5", "hourly:", "weekly:", "weekly:foo", "weekly:monday", "weekly:1", "monthly:",
    "monthly:0", "monthly:32", "monthly:-1", "monthly:1.5", "monthly:first", "monthly:1:2", "quarterly:0",
    "quarterly:32", "quarterly:last", "yearly:2-30", "yearly:13-1", "yearly:0-1", "yearly:4-31", "yearly:1",
    "yearly:last", "nth_weekday", "nth_weekday:", "nth_weekday:5:mon", "nth_weekday:0:mon", "nth_weekday:2",
    "nth_weekday:2:foo", "nth_weekday:mon:2", "every", "every:", "every:0s", "every:30", "every:1mo", "every:-1s",
    "every:1.5h", "every:30m1h", "every:1h1h", "every:367d", "every:999999999s", "every:1h/", "every:1h/2024-02-30",
    "every:1h/20240101", "every:1h/1969-12-31", "every:1h/2024-01-01T00:00", "rolling", "rolling:", "rolling:0s",
    "rolling:60", "rolling:1y", "rolling:367d", "rolling:1h/2024-01-01", "lifetime:", "lifetime:1", "@UTC", ":", ":1",
]  # fmt: skip


@pytest.mark.parametrize(
    "bad",
    [*REFUSED, "", " daily", "daily ", "daily\n", "daily : 1", "monthly:\uff11", "monthly:\u0661", "wee\u212aly",
     5, None, True, b"daily", ["daily"], {"window": "daily"}],
)  # fmt: skip
def test_what_the_grammar_does_not_know_is_refused_with_all_forms(bad: object) -> None:
    with pytest.raises(ValueError) as caught:
        parse(bad)  # type: ignore[arg-type]
    assert repr(bad)[:60] in str(caught.value)
    assert FORMS in str(caught.value)


@pytest.mark.parametrize(
    "zone",
    ["Mars/Base", "", "Europe", "Europe/Paris@UTC", "../etc/passwd", "/etc/localtime", "localtime", "Factory",
     "right/Europe/Paris", "posix/Europe/Paris", "posixrules", "tzdata.zi", "+02:00", "UTC+2", " UTC", "UTC\0"],
)  # fmt: skip
def test_an_unknown_zone_is_named(zone: str) -> None:
    """Names that mean another thing on each machine, or count leap seconds, are no zones either."""
    for text, default in [(f"monthly@{zone}", "UTC"), ("rolling:60s", zone), (f"lifetime@{zone}", "UTC")]:
        with pytest.raises(ValueError, match="unknown time zone") as caught:
            parse(text, default)
        assert repr(zone) in str(caught.value)
        assert FORMS in str(caught.value)


def test_a_default_zone_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="None is not text"):
        parse("daily", None)  # type: ignore[arg-type]


def test_a_long_text_is_not_repeated_in_full() -> None:
    with pytest.raises(ValueError) as caught:
        parse("daily:" + "9" * 10**6)
    assert len(str(caught.value)) < 1000


NO_ZONE_DATA = """
import sys
sys.modules["tzdata"] = None
from capguard.ledger.windows import parse
print(parse("monthly").canonical, parse("daily@utc").period(0))
try:
    parse("daily@Europe/Paris")
except ValueError as error:
    print(error)
"""


def test_without_time_zone_data_utc_works_and_the_rest_says_what_to_install() -> None:
    """A slim container is refused when the policy is read, not at its first midnight."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", NO_ZONE_DATA],
        env={"PYTHONTZPATH": "", "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    works, refused = done.stdout.splitlines()
    assert works.startswith("monthly:1@UTC Period(starts_at_ms=0, ends_at_ms=86400000")
    assert "'Europe/Paris' needs time zone data" in refused
    assert "install tzdata" in refused


@pytest.mark.parametrize(
    ("text", "length"),
    [("1s", 1), ("90s", 90), ("15m", 900), ("24h", DAY), ("7d", 7 * DAY), ("2w", 14 * DAY), ("1w1d1h1m1s", 694_861)],
)
def test_duration(text: str, length: int) -> None:
    assert duration_ms(text) == duration_ms(text.upper()) == length * 1000


@pytest.mark.parametrize("text", ["", "0s", "5", "s", "1mo", "1y", "-1s", "1.5h", "1m1h", "1 h", "\u0661s", "366d1s"])
def test_a_bad_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration from 1s to 366d"):
        duration_ms(text)


# the value


@pytest.mark.parametrize("text", ["daily", "rolling:60s", "every:1h", "lifetime", "yearly:7-1"])
@pytest.mark.parametrize("now", [-1, LATEST_MS, FOREVER_MS])
def test_an_instant_outside_the_calendar_is_refused(text: str, now: int) -> None:
    """Also when the last period, which is remembered, would reach so far."""
    window = parse(text)
    window.period(0)
    with pytest.raises(ValueError, match="has no period"):
        window.period(now)


@pytest.mark.parametrize("form", CALENDAR_FORMS)
def test_the_latest_instant_has_a_period(form: str) -> None:
    period = parse(form, "Pacific/Kiritimati").period(LATEST_MS - 1)
    assert period.starts_at_ms < LATEST_MS <= period.ends_at_ms


def test_the_current_period_is_remembered_and_a_clock_set_back_is_followed() -> None:
    window = parse("daily@Europe/Paris")
    today = window.period(ms("2026-05-05T12:00"))
    assert window.period(ms("2026-05-05T13:00")) is today
    yesterday = window.period(ms("2026-05-04T12:00"))
    assert yesterday.ends_at_ms == today.starts_at_ms
    assert window.period(ms("2026-05-05T12:00")) == today


def test_one_window_serves_many_threads() -> None:
    """The remembered period never leaks into another thread's answer."""
    window = parse("daily@Europe/Paris")
    instants = [ms("2026-05-05T12:00") + day * DAY * 1000 for day in range(5)] * 200

    def holds(now: int) -> bool:
        period = window.period(now)
        return period.starts_at_ms <= now < period.ends_at_ms

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(holds, instants))
