"""The kinds of values that stand in a policy, each refused with what is allowed in its place."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, StrictBool

from capguard.errors import PolicyError
from capguard.ledger import windows
from capguard.ledger.money import decimal_of
from capguard.policy.findings import refusal, refuse, shown

MAX_TEXT = 256
"""Characters in the longest id or name."""

IDENTITY = ("user", "plan", "org", "team", "key_id", "feature", "session")
"""Fields of the caller that a cap may count by; besides them `tag:<name>`."""

MATCHABLE = (*IDENTITY, "model")
"""What a cap may match on; besides them `tag:<name>`."""

TAG = "tag:"

Action = Literal["block", "downgrade", "clamp", "throttle", "warn", "dry_run"]
Otherwise = Literal["pass", "block"]
OpenOrClosed = Literal["open", "closed"]

_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
_MOST_DIGITS = 18
_MOST_DECIMALS = 30


def is_field(name: str, fields: Iterable[str]) -> bool:
    """Whether `name` is one of `fields` or a tag with a name."""
    return name in fields or (name.startswith(TAG) and len(name) > len(TAG))


def plain(number: Decimal) -> str:
    """A number in its shortest plain form, 5 and 0.0000001, whatever the decimal context of the thread."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def readable(value: object) -> Decimal | None:
    """The number that `value` states, in its shortest form, or None where a policy takes it for none."""
    try:
        number = decimal_of(value)
    except ValueError:
        return None
    power = int(number.as_tuple().exponent)
    in_bounds = max(number.adjusted(), power) < _MOST_DIGITS and power >= -_MOST_DECIMALS
    return Decimal(plain(number)) if in_bounds else None


def _number(value: Any) -> Decimal:
    number = readable(value)
    if number is None:
        refuse(
            shown(value), f"a finite number, 0 or more, below 1e{_MOST_DIGITS}, of at most {_MOST_DECIMALS} decimals"
        )
    return number


def _between(low: str, high: str, *, open_low: bool = False) -> Callable[[Decimal], Decimal]:
    """A check that a number lies in [low, high], or in (low, high]."""

    def check(number: Decimal) -> Decimal:
        if not Decimal(low) <= number <= Decimal(high) or (open_low and number == Decimal(low)):
            refuse(plain(number), f"{'more than' if open_low else 'from'} {low}, {'up' if open_low else ''} to {high}")
        return number

    return check


def _whole(low: int, high: int) -> Callable[[Any], int]:
    """A check for a whole number in [low, high], written as a number and not as text."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            refuse(shown(value), f"a whole number from {low} to {high}")
        return value

    return check


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or _has_unprintable(value):
        refuse(shown(value), f"text of 1 to {MAX_TEXT} characters without control characters")
    return value


def _has_unprintable(text: str) -> bool:
    return any(unicodedata.category(character) in _UNPRINTABLE for character in text)


def _globs(value: Any) -> tuple[str, ...]:
    patterns = (value,) if isinstance(value, str) else value
    if not isinstance(patterns, (list, tuple)) or not patterns:
        refuse(shown(value), "a pattern as 'gpt-4o*', or a list of them")
    return tuple(_text(pattern) for pattern in patterns)


def _window(value: Any) -> str:
    """The text of a window; its default zone is that of the document and checked there."""
    if not isinstance(value, str):
        refuse(shown(value), windows.FORMS)
    try:
        windows.parse(value)
    except ValueError as error:
        raise PolicyError([refusal(error)]) from None
    return value


def _zone(value: Any) -> str:
    allowed = "an IANA zone, as 'UTC' or 'Europe/Paris'"
    if not isinstance(value, str) or not value:
        refuse(shown(value), allowed)
    try:
        windows.parse("daily", value)
    except ValueError as error:
        refuse(refusal(error).found.removeprefix("window 'daily': "), allowed)
    return value


def _duration(value: Any) -> str:
    try:
        windows.duration_ms(value if isinstance(value, str) else "")
    except ValueError:
        refuse(shown(value), "a duration from 1s to 366d, as '90s', '30m', '24h', '7d' or '1h30m'")
    return str(value)


def _per(fields: tuple[str, ...]) -> tuple[str, ...]:
    allowed = f"{', '.join(IDENTITY)} and tag:<name>"
    for field in fields:
        if not is_field(field, IDENTITY):
            refuse(shown(field), allowed)
    if len(set(fields)) < len(fields):
        refuse(f"{', '.join(fields)}: a field twice", f"each field once, of {allowed}")
    return fields


def _thresholds(shares: tuple[Decimal, ...]) -> tuple[Decimal, ...]:
    if len(set(shares)) < len(shares):
        refuse("a threshold twice", "each threshold once")
    return tuple(sorted(shares))


Text = Annotated[str, BeforeValidator(_text)]
Flag = StrictBool
Number = Annotated[Decimal, BeforeValidator(_number), PlainSerializer(plain, when_used="json")]
Share = Annotated[Number, AfterValidator(_between("0", "1"))]
Deadline = Annotated[Number, AfterValidator(_between("0", "60", open_low=True))]
Wait = Annotated[Number, AfterValidator(_between("0", "3600", open_low=True))]
Threshold = Annotated[Number, AfterValidator(_between("0", "10", open_low=True))]
Thresholds = Annotated[tuple[Threshold, ...], AfterValidator(_thresholds)]
Tokens = Annotated[int, BeforeValidator(_whole(1, 100_000_000))]
OutputLimit = Annotated[int, BeforeValidator(_whole(0, 100_000_000))]
Priority = Annotated[int, BeforeValidator(_whole(-1_000_000, 1_000_000))]
Globs = Annotated[tuple[str, ...], BeforeValidator(_globs)]
WindowText = Annotated[str, BeforeValidator(_window)]
Zone = Annotated[str, BeforeValidator(_zone)]
Duration = Annotated[str, BeforeValidator(_duration)]
Per = Annotated[tuple[Text, ...], AfterValidator(_per)]
