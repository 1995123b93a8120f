"""The real LiteLLM against the fake provider over HTTP, which counts what reaches it."""

from __future__ import annotations

import gc
import inspect
import os
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # read when LiteLLM is imported: no look at the network
os.environ.setdefault("HF_HUB_OFFLINE", "1")
for pause in ("INITIAL_RETRY_DELAY", "JITTER"):  # of its Router, in seconds
    os.environ.setdefault(pause, "0.001")

litellm = pytest.importorskip("litellm")
litellm.suppress_debug_info = True

HERE = Path(__file__).parent

THEIRS = (
    "ignore::DeprecationWarning",
    "ignore::UserWarning",
    "ignore::ResourceWarning",
    "ignore:coroutine .* was never awaited:RuntimeWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
"""What LiteLLM warns of by itself: its clients stay open, its logging is cut off with its loop."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            for warning in THEIRS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture
def url() -> str:
    """One backend is enough here: the others' tests are elsewhere."""
    return "memory://"


@pytest.fixture(scope="module", autouse=True)
def nothing_left() -> Iterator[None]:
    """What LiteLLM leaves open is collected here, where nobody takes the warnings for ours."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
        gc.collect()


@pytest.fixture(autouse=True)
async def as_it_was(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """LiteLLM keeps its settings in its module: each test finds them as they were."""
    for name in ("callbacks", "success_callback", "failure_callback", "_async_success_callback"):
        monkeypatch.setattr(litellm, name, [])
    for name, value in (("cache", None), ("num_retries", None), ("model_fallbacks", None)):
        monkeypatch.setattr(litellm, name, value)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)  # LiteLLM lets it retry some calls anyway
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.001)
    yield
    await closed(litellm.in_memory_llm_clients_cache)


async def closed(clients: Any) -> None:
    """Close the HTTP clients that LiteLLM keeps for later."""
    for client in clients.cache_dict.values():
        if close := getattr(client, "close", None):
            closing = close()
            if inspect.isawaitable(closing):
                await closing
    clients.flush_cache()
