"""Who is calling: what the adapter was told, over `identify`, over the metadata of LangChain's config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from capguard.identity import FIELDS, Identity, context, identity_of

METADATA: Mapping[str, tuple[str, ...]] = {
    "user": ("user_id",),
    "plan": ("plan",),
    "org": ("org",),
    "team": ("team",),
    "key_id": ("key_id",),
    "feature": ("feature",),
    "session": ("session_id", "thread_id"),
}
"""Which keys of the metadata name which field; LangGraph puts the `thread_id` there by itself."""

KEY = "capguard"
"""The key whose value is a mapping of identity fields: `metadata={"capguard": {"plan": "pro"}}`."""


class Who:
    """The identity of calls: fields that are fixed, and the metadata's keys for the others.

    `metadata` maps a field, or `tag:<name>`, to a key or to several of which the first that is there counts, or to
    None; what it leaves out stays as in `METADATA`. Raises ValueError for a field that does not exist.
    """

    def __init__(self, fixed: Mapping[str, Any], metadata: Mapping[str, str | tuple[str, ...] | None] | None = None):
        self._fixed = identity_of(fixed)
        self._keys = {**METADATA, **(metadata or {})}
        for name in self._keys:
            if name not in FIELDS and not name.startswith("tag:"):
                raise ValueError(f"metadata: {name!r} is no field; allowed: {', '.join(FIELDS)}, tag:<name>")

    def identity(self, metadata: Mapping[str, Any]) -> Identity:
        """Raises ValueError for a value that can name nobody."""
        here = self._fixed.over(context().identity)
        return here.over(identity_of(metadata.get(KEY)).over(self._found(metadata)))

    def _found(self, metadata: Mapping[str, Any]) -> Identity:
        fields: dict[str, Any] = {}
        tags: dict[str, str] = {}
        for name, keys in self._keys.items():
            value = _first(metadata, (keys,) if isinstance(keys, str) else keys or ())
            if value is None:
                continue
            if name.startswith("tag:"):
                tags[name.removeprefix("tag:")] = value
            else:
                fields[name] = value
        return Identity(**fields, tags=tags)


def _first(metadata: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    """The first value that is there. Numbers and UUIDs, which databases give, are taken as their text."""
    value = next((value for key in keys if (value := metadata.get(key)) is not None), None)
    return str(value) if isinstance(value, UUID) or type(value) is int else value
