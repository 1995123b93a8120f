"""From pydantic's errors to findings: where, what was found, what is allowed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel, ValidationError

from capguard.errors import Finding, PolicyError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_SHOWN = 60
_MOST_LISTED = 50

_ALLOWED = {
    "missing": "a value, it has no default",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a table",
    "mapping_type": "a table",
    "string_type": "text",
    "timezone_aware": "a time with its zone, as 2026-01-31T00:00:00Z",
}


def findings_of(error: ValidationError, data: Any = None) -> list[Finding]:
    """The findings in a pydantic error; `data` is what was validated and gives the ids of caps to the places."""
    return [finding for detail in error.errors(include_url=False) for finding in _findings(detail, data)]


def refuse(found: str, allowed: str) -> NoReturn:
    """Refuse the value of one field, from inside its validator."""
    raise PolicyError([Finding("", found, allowed)])


def refusal(error: ValueError) -> Finding:
    """The finding in a ValueError whose text ends in `; allowed: ...`, as those of the ledger do."""
    found, _, allowed = str(error).partition("; allowed: ")
    return Finding("", found, allowed or "a valid value")


def shown(value: object) -> str:
    """`value` as a message shows it: on one line, short, printable."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (Mapping, BaseModel)):
        return "a table"
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"a list of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, (str, int, float, Decimal)):
        return _short(repr(value) if isinstance(value, str) else str(value))
    return f"a value of type {type(value).__name__}"


def did_you_mean(value: object, known: Collection[str]) -> str:
    """A hint at the closest of `known`, to be added to what was found; nothing where none is close."""
    if not isinstance(value, str) or len(known) > _MOST_LISTED:
        return ""
    close = get_close_matches(value, known, n=1)
    return f", did you mean {shown(close[0])}?" if close else ""


def listed(names: Collection[str]) -> str:
    """Names as a message lists them, not all of very many."""
    more = ", ..." if len(names) > _MOST_LISTED else ""
    return ", ".join(_escaped(name) for name in islice(names, _MOST_LISTED)) + more


def place_of(loc: Sequence[str | int], data: Any = None) -> str:
    """A path into a document as people write it: `plans.pro.caps[1] (cheaper).window`."""
    place = ""
    for key in loc:
        in_table, data = isinstance(data, Mapping), _inside(data, key)
        place += indexed(key, data) if isinstance(key, int) and not in_table else f".{_key(str(key))}"
    return place.removeprefix(".")


def indexed(index: int, item: Any) -> str:
    """The step to one item of a list, with its id where it has one: `[1] (cheaper)`."""
    name = item.get("id") if isinstance(item, Mapping) else getattr(item, "id", None)
    return f"[{index}]" + (f" ({_escaped(name)})" if isinstance(name, str) else "")


def joined(place: str, inner: str) -> str:
    """`inner`, a place inside of `place`, as a place of the whole."""
    return f"{place}.{inner}" if place and inner else place or inner


def _findings(detail: ErrorDetails, data: Any) -> list[Finding]:
    loc = [key for key in detail["loc"] if key != "[key]"]
    place = place_of(loc, data)
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, PolicyError):
        return [Finding(joined(place, each.place), each.found, each.allowed) for each in cause.findings]
    if isinstance(cause, ValueError):
        inner = refusal(cause)
        return [Finding(place, inner.found, inner.allowed)]
    return [Finding(place, *_told(detail))]


def _told(detail: ErrorDetails) -> tuple[str, str]:
    kind, value = detail["type"], detail["input"]
    if kind == "missing":
        return "missing", _ALLOWED[kind]
    if kind == "literal_error":
        allowed = str(detail["ctx"]["expected"])
        return shown(value) + did_you_mean(value, re.findall(r"'(.*?)'", allowed)), allowed
    return shown(value), _ALLOWED.get(kind, detail["msg"])


def _inside(data: Any, key: str | int) -> Any:
    if isinstance(data, Mapping):
        return data.get(key)
    if isinstance(data, (list, tuple)) and isinstance(key, int) and key < len(data):
        return data[key]
    return None


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) and len(key) <= _SHOWN else f'"{_escaped(key)}"'


def _escaped(text: str) -> str:
    return _short(repr(text)[1:-1].replace('"', '\\"'))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
