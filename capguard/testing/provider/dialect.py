"""What one endpoint of a provider has to say: its shapes of a reply, a stream and an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from capguard.testing.provider.reply import Json, Reply


@dataclass(frozen=True, slots=True)
class Dialect:
    """An endpoint: the fields it requires, its names for the output limit, and its shapes."""

    path: str
    required: tuple[str, ...]
    limits: tuple[str, ...]
    plain: Callable[[Reply], Json]
    events: Callable[[Reply], Iterator[bytes]] | None
    error: Callable[[int, str], Json]

    def check(self, request: Json) -> None:
        """Raises ValueError where a required field is missing or the model has no name."""
        missing = [field for field in self.required if request.get(field) is None]
        if missing:
            raise ValueError(f"{', '.join(missing)}: required by {self.path}")
        if not isinstance(request["model"], str):
            raise ValueError(f"model: {request['model']!r} is refused; allowed: a text")

    def limit(self, request: Json) -> int | None:
        """The output limit of a call, in tokens. Raises ValueError for one that is not a whole number of 1 or more."""
        for name in self.limits:
            value = request.get(name)
            if value is not None:
                if type(value) is not int or value < 1:
                    raise ValueError(f"{name}: {value!r} is refused; allowed: a whole number, 1 or more")
                return value
        return None


def encode(value: Any) -> bytes:
    """`value` as compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def event(data: Json, name: str | None = None) -> bytes:
    """One server-sent event, with its name where the provider gives one."""
    head = b"" if name is None else b"event: %s\n" % name.encode()
    return b"%sdata: %s\n\n" % (head, encode(data))
