"""A policy as TOML that loads as the same policy; what stands at its default is left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from capguard.policy.document import Policy
from capguard.policy.fields import plain

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def toml_text(policy: Policy) -> str:
    """The text, without a newline at its end."""
    return "\n".join(_table((), policy.model_dump(exclude_defaults=True))).strip("\n")


def _table(path: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[str]:
    inner = {name: value for name, value in table.items() if isinstance(value, Mapping)}
    if path and (len(inner) < len(table) or not table):
        yield f"\n[{'.'.join(map(_key, path))}]"
    for name, value in table.items():
        if name not in inner:
            yield f"{_key(name)} = {_value(value, broken=name == 'caps')}"
    for name, value in inner.items():
        yield from _table((*path, name), value)


def _value(value: Any, *, broken: bool = False) -> str:
    if isinstance(value, Mapping):
        fields = ((name, each) for name, each in value.items() if each is not None)
        return "{ " + ", ".join(f"{_key(name)} = {_value(each)}" for name, each in fields) + " }"
    if isinstance(value, (list, tuple)):
        items = [_value(each) for each in value]
        return "[\n" + "".join(f"  {item},\n" for item in items) + "]" if broken else f"[{', '.join(items)}]"
    return plain(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)
