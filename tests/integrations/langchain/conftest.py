"""The real LangChain and ChatOpenAI against the fake provider over HTTP, which counts what reaches it."""

from __future__ import annotations

import gc
import logging
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core")
httpx = pytest.importorskip("httpx")
langchain_openai = pytest.importorskip("langchain_openai")

from capguard import Guard  # noqa: E402
from capguard.integrations.langchain import CapguardCallbackHandler, uninstall  # noqa: E402
from capguard.testing.provider import Served  # noqa: E402
from tests.integrations.langchain.paths import POLICY  # noqa: E402

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:Unexpected type for token usage:UserWarning"))


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No tracing, no word of LangChain's about each refusal, and nothing stays installed."""
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.ERROR)
    yield
    uninstall()


@pytest.fixture(scope="package", autouse=True)
def collected_fast() -> Iterator[None]:
    """What was imported is not looked through at each collection: these tests ask for many."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def ledger() -> str:
    return "memory://"


@pytest.fixture
def guard(ledger: str) -> Iterator[Guard]:
    """With the system's clock; its books are right at the end."""
    refused: list[Any] = []
    with Guard(ledger, policy=POLICY, namespace=uuid.uuid4().hex) as guard:
        guard.on("denied", refused.append)
        yield guard
        assert guard.verify()
    if refused:  # LangChain leaves callbacks unawaited: collected here, where nobody takes them for ours
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()


@pytest.fixture
def handler(guard: Guard) -> CapguardCallbackHandler:
    return CapguardCallbackHandler(guard)


@pytest.fixture
def config(handler: CapguardCallbackHandler) -> dict[str, Any]:
    return {"callbacks": [handler], "metadata": {"user_id": "u1"}}


@pytest.fixture
async def to_fake(fake: Served) -> AsyncIterator[Callable[..., Any]]:
    """`to_fake("big")`: a ChatOpenAI towards the fake provider; or another class of langchain-openai."""
    fake.provider.set(input_tokens=10, output_tokens=20)
    sync, client = httpx.Client(verify=False), httpx.AsyncClient(verify=False)  # certificates take long to load
    clients = {"http_client": sync, "http_async_client": client}
    usual = {"base_url": fake.url, "api_key": "any", "max_retries": 0, **clients}

    def make(model: str = "big", of: Any = langchain_openai.ChatOpenAI, **options: Any) -> Any:
        chat = {"max_tokens": 20, "stream_usage": True} if of is langchain_openai.ChatOpenAI else {}
        return of(**{"model": model, **usual, **chat, **options})

    yield make
    sync.close()
    await client.aclose()
