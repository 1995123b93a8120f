"""Reading foreign objects by key or attribute, without importing anybody's SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capguard.ledger.money import MAX_AMOUNT


def get(thing: Any, name: str) -> Any:
    """`thing[name]` of a mapping, `thing.name` of anything else; None where there is none."""
    if isinstance(thing, dict):
        return thing.get(name)
    if hasattr(type(thing), "__pydantic_fields__"):  # asking pydantic for a field that is missing takes 5 us
        found = thing.__dict__.get(name)
        extra = thing.__pydantic_extra__
        return extra.get(name) if found is None and extra else found
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def path(thing: Any, *names: str) -> Any:
    """`get` along several names; None as soon as one is missing."""
    for name in names:
        if thing is None:
            return None
        thing = get(thing, name)
    return thing


def count(value: Any) -> int | None:
    """`value` as a count of tokens, None where it is none. JSON writers may send 12.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is int and 0 <= value <= MAX_AMOUNT:
        return value
    return None


def first_count(thing: Any, *names: str) -> int:
    """The first of these counts that is present and above 0; else 0."""
    return next((found for name in names if (found := count(get(thing, name)))), 0)


def text_of(value: Any) -> str:
    """`value` if it is text, else nothing."""
    return value if isinstance(value, str) else ""


def items_of(value: Any) -> list[Any]:
    """`value` as a list if it is a list or tuple, else nothing."""
    return list(value) if isinstance(value, (list, tuple)) else []
