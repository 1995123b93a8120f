"""What changes from one policy to another: the fields that differ, with caps matched by their ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from capguard.policy.document import Policy
from capguard.policy.findings import place_of
from capguard.policy.load import dump_policy

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One place in a policy and what stands there, `before` and `after`; None where nothing does.

    A cap is named by its id: `plans.pro.caps.hard.limit`. Numbers with decimals are text, as in `dump_policy`.
    """

    place: str
    before: Any
    after: Any

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.place} = {_inline(self.after)}"
        if self.after is None:
            return f"- {self.place} = {_inline(self.before)}"
        return f"~ {self.place}: {_inline(self.before)} -> {_inline(self.after)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"place": self.place, "before": self.before, "after": self.after}


def diff(old: Policy, new: Policy) -> list[Change]:
    """Every difference between two policies, in the order of `new`, then what only `old` has.

    A field that one of them leaves to its default is told with that default. A table that comes or goes is one change,
    and so is another order of the caps that both have, because that is the policy order.
    """
    short = _by_id(dump_policy(old)), _by_id(dump_policy(new))
    found = _changes((), _by_id(old.model_dump(mode="json")), _by_id(new.model_dump(mode="json")))
    return [
        Change(place_of(path), _shortened(before, path, short[0]), _shortened(after, path, short[1]))
        for path, before, after in found
    ]


def _by_id(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table whose lists of caps, however deep, are tables by id."""
    return {name: _part(name, inner) for name, inner in table.items()}


def _part(name: str, inner: Any) -> Any:
    if name == "caps" and isinstance(inner, list):
        return {cap["id"]: cap for cap in inner}
    return _by_id(inner) if isinstance(inner, Mapping) else inner


def _changes(path: Path, old: Any, new: Any) -> Iterator[tuple[Path, Any, Any]]:
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        if old != new:
            yield path, old, new
        return
    for name in (*new, *(name for name in old if name not in new)):
        yield from _changes((*path, name), old.get(name), new.get(name))
    if path[-1:] == ("caps",):
        orders = [name for name in old if name in new], [name for name in new if name in old]
        if orders[0] != orders[1]:
            yield path, *orders


def _shortened(value: Any, path: Path, document: Any) -> Any:
    """A table as `document` has it at `path`, without its defaults; anything else as it is."""
    if not isinstance(value, Mapping):
        return value
    for name in path:
        document = document.get(name, {})
    return document


def _inline(value: Any) -> str:
    """A value on one line, as TOML would have it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_inline(inner)}" for name, inner in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
