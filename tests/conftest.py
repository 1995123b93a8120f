"""What the tests of the public face share: a Guard on every backend that needs no server, a clock, a fake provider."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from capguard import Guard
from capguard.testing import ManualClock
from capguard.testing.provider import Served, serve


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    """The tests see no CAPGUARD_ variable but their own, and keep nothing in the state directory of this machine."""
    for name in [name for name in os.environ if name.startswith("CAPGUARD_") and name != "CAPGUARD_SOAK"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CAPGUARD_STATE", str(tmp_path_factory.getbasetemp() / f"state-{hash(request.node.nodeid):x}"))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/ledger.db?timeout=30"


@pytest.fixture
def opened(url: str, clock: ManualClock) -> Iterator[Callable[..., Guard]]:
    """`opened(policy)`: a Guard on the backend under test and the test's clock; its books are right at the end."""
    with ExitStack() as stack:

        def make(policy: Any, **options: Any) -> Guard:
            guard = stack.enter_context(Guard(url, policy=policy, **{"clock": clock, **options}))
            stack.callback(lambda: _assert_right(guard))
            return guard

        yield make


def _assert_right(guard: Guard) -> None:
    found = guard.verify()
    assert found, found


@pytest.fixture(scope="session")
def provider() -> Iterator[Served]:
    with serve() as served:
        yield served


@pytest.fixture
def fake(provider: Served) -> Served:
    provider.provider.reset()
    return provider


@pytest.fixture
def oai(fake: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=fake.url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
async def aoai(fake: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=fake.url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(fake: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=fake.anthropic_url, api_key="any", max_retries=0) as client:
        yield client
