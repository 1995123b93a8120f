"""Fifty calls at once on room for four: exactly four reach the provider, in every form."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from capguard import CapExceeded, Guard
from capguard.testing.provider import Served
from tests.integrations.litellm.paths import MESSAGES, PRICES, TARGETS, every_target
from tests.kit import held, kinds

FOUR = {"prices": PRICES, "caps": [{"id": "monthly", "limit": 4, "unit": "requests"}]}
CALL: dict[str, Any] = {"model": "big", "messages": MESSAGES, "max_tokens": 20, "user": "u1", "num_retries": 2}


@pytest.mark.parametrize("stream", [False, True])
@every_target
async def test_async(target: str, stream: bool, fake: Served, opened: Callable[..., Guard]):
    """As tasks of one loop."""
    guard = opened(FOUR)
    capped = TARGETS[target](guard, fake)

    async def one() -> bool:
        try:
            reply = await capped.acompletion(**CALL, stream=stream)
            return bool([chunk async for chunk in reply] if stream else reply)
        except CapExceeded:
            return False

    assert sum(await asyncio.gather(*(one() for _ in range(50)))) == 4
    assert_four(guard, fake)


@pytest.mark.parametrize("stream", [False, True])
@every_target
def test_sync(target: str, stream: bool, fake: Served, opened: Callable[..., Guard]):
    """As threads."""
    guard = opened(FOUR)
    capped = TARGETS[target](guard, fake)

    def one(_: int) -> bool:
        try:
            reply = capped.completion(**CALL, stream=stream)
            return bool(list(reply) if stream else reply)
        except CapExceeded:
            return False

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(one, range(50))) == 4
    assert_four(guard, fake)


def assert_four(guard: Guard, fake: Served) -> None:
    assert fake.provider.calls == 4
    assert sorted(kinds(guard)) == ["reserve"] * 4 + ["settle"] * 4
    assert held(guard) == 0
