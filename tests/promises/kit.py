"""Words that the named tests share: money that is booked, calls that are refused, what was told."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from capguard import CapExceeded, Guard
from capguard.events import Event
from capguard.states import CapState
from tests.kit import PRICES

Opened = Callable[..., Guard]

ASK: dict[str, Any] = {"user": "u1", "model": "big", "prompt": "x", "max_tokens": 100}
"""1 token in at $10 and 100 out at $20 per million: $0.00201 on "big", $0.000201 on "small"."""

BIG, SMALL = Decimal("0.00201"), Decimal("0.000201")


def cap(id: str = "c", limit: Any = 5, **fields: Any) -> dict[str, Any]:
    return {"id": id, "limit": limit, **fields}


def caps(*written: dict[str, Any], **rest: Any) -> dict[str, Any]:
    """A policy of these caps, with prices for "big" and "small"."""
    return {"prices": PRICES, "caps": list(written), **rest}


def spend(guard: Guard, amount: Any, user: str | None = "u1", **call: Any) -> None:
    """Book an amount, whatever the caps say of it: the reserve asks for nothing."""
    guard.settle(guard.reserve(user=user, cost=0, **call), cost=amount)


def refused(guard: Guard, **call: Any) -> CapExceeded:
    with pytest.raises(CapExceeded) as caught:
        guard.reserve(**call)
    return caught.value


def refusing(guard: Guard, **call: Any) -> list[str]:
    """The ids of the caps that refuse this call, in the order told."""
    return [each.id for each in refused(guard, **call).caps]


def state(guard: Guard, id: str = "c", **identity: Any) -> CapState:
    return guard.status(**(identity or {"user": "u1"})).caps[id]


def meters(guard: Guard, **identity: Any) -> dict[str, tuple[Decimal, Decimal]]:
    """(settled, held) of every cap."""
    return {each.id: (each.settled, each.held) for each in guard.status(**(identity or {"user": "u1"})).caps}


def listen(guard: Guard, name: str = "*") -> list[Event]:
    """The events of this name, as they come."""
    told: list[Event] = []
    guard.on(name, told.append)
    return told


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Another program holds the write lock of this SQLite file for the length of the block."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()
