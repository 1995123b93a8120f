"""What happened, told to observers after the fact: each event says who, which cap, how much, until when."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

log = logging.getLogger("capguard")

EventName = Literal[
    "denied",
    "warned",
    "dry_run",
    "downgraded",
    "clamped",
    "throttled",
    "threshold",
    "included_used_up",
    "grant_used_up",
    "unpriced",
    "uncertain",
    "overrun",
    "late",
    "conflict",
    "unknown_plan",
    "policy_changed",
    "backend_away",
    "backend_back",
]
NAMES: Final[tuple[str, ...]] = EventName.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. Fields may be added; the ones that say nothing about an event are None or empty.

    `cap` is the cap's id, or the grant's. `amount` and `limit` are in `unit`. `threshold` is a share of the limit.
    """

    name: str
    at: datetime
    identity: Mapping[str, str] = field(default_factory=dict)
    call_id: str | None = None
    model: str | None = None
    cap: str | None = None
    scope: Mapping[str, str | None] = field(default_factory=dict)
    unit: str | None = None
    amount: Decimal | None = None
    limit: Decimal | None = None
    threshold: Decimal | None = None
    until: datetime | None = None
    reason: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


Observer = Callable[[Event], object]


class Observers:
    """Who is told of what. An observer that fails is logged and counted in `failures`, never felt by the call."""

    def __init__(self, plugged: Sequence[Observer] = ()):
        self._by_name: dict[str, list[Observer]] = defaultdict(list)
        self._plugged = tuple(plugged)
        self.failures: Counter[str] = Counter()

    def on(self, name: str, observer: Observer) -> None:
        """Tell `observer` of every event of this name; `*` for all. Raises ValueError for a name that no event has."""
        if name not in (*NAMES, "*"):
            raise ValueError(f"event: {name!r:.60} is none; allowed: {', '.join(NAMES)}, *")
        self._by_name[name].append(observer)

    @property
    def listening(self) -> bool:
        """Whether anybody would be told."""
        return bool(self._by_name or self._plugged)

    def tell(self, event: Event) -> None:
        """Tell everybody, each guarded."""
        for observer in (*self._by_name.get(event.name, ()), *self._by_name.get("*", ()), *self._plugged):
            self._guarded(observer, event)

    def _guarded(self, observer: Observer, event: Event) -> None:
        try:
            observer(event)
        except Exception:  # whatever an observer does wrong must not reach the call
            self.failures[event.name] += 1
            log.exception("capguard: an observer of %r failed", event.name)
