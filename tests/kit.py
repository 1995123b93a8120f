"""Small words for the tests of the public face: a policy, a call, what the journal says."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from capguard import Guard
from capguard.journal import Entry

PRICES = {
    "big": {"input": 10, "output": 20},
    "small": {"input": 1, "output": 2},
    "embed": {"input": 1, "output": 0},
}
POLICY: dict[str, Any] = {"prices": PRICES, "caps": [{"id": "monthly", "limit": 5}]}
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Say something."}], "max_tokens": 100}
CALL: dict[str, Any] = {"user": "u1", "model": "big", **ASK}
MESSAGES = ASK["messages"]


def last(guard: Guard, user: str | None = None) -> Entry:
    """The newest entry."""
    return list(guard.entries(user=user))[-1]


def kinds(guard: Guard) -> list[str]:
    return [entry.kind for entry in guard.entries()]


def spent(guard: Guard, cap: str = "monthly", user: str = "u1") -> Decimal:
    """What is settled on a cap."""
    return guard.status(user=user).caps[cap].settled


def held(guard: Guard, cap: str = "monthly", user: str = "u1") -> Decimal:
    """What is held on a cap."""
    return guard.status(user=user).caps[cap].held


async def in_call(guard: Guard, way: str, body: Callable[[Any], Any], **call: Any) -> Any:
    """Run `body(call)` in the block of a call, entered with `with` or `async with`."""
    if way == "sync":
        with guard.call(**call) as entered:
            return body(entered)
    async with guard.call(**call) as entered:
        return body(entered)
