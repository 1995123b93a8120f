"""An application's guard, a capped client for its routes, and a provider that answers them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from capguard import Guard
from capguard.integrations.openai import cap
from capguard.testing import ManualClock
from capguard.testing.provider import Served
from tests.kit import PRICES

POLICY: dict[str, Any] = {
    "prices": PRICES,
    "default_plan": "free",
    "plans": {
        "free": {"caps": [{"id": "monthly", "limit": "0.03"}]},
        "pro": {"caps": [{"id": "monthly", "limit": 5}]},
    },
}
"""Two calls of 0.012 on the free plan, then it is spent but for 0.006."""


@pytest.fixture
def url() -> str:
    """The middleware does not know the backend: one is enough here."""
    return "memory://"


@pytest.fixture
def guard(opened: Callable[..., Guard]) -> Guard:
    return opened(POLICY)


@pytest.fixture
def sync_client(guard: Guard, fake: Served) -> Iterator[Any]:
    """A capped client; a call of it costs 0.012."""
    fake.provider.set(input_tokens=1000, output_tokens=100)
    http = openai.DefaultHttpxClient(verify=False)
    with openai.OpenAI(base_url=fake.url, api_key="any", max_retries=0, http_client=http) as client:
        yield cap(client, guard)


@pytest.fixture
def at(clock: ManualClock) -> str:
    """When the monthly caps of the tests reset."""
    assert (clock.now.year, clock.now.month) == (2026, 1)
    return "2026-02-01T00:00:00+00:00"
