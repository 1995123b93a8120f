"""A fake provider for each module, set back for each test, and clients that many tests share."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import httpx
import openai
import pytest

from capguard.testing.provider import Served, serve


@pytest.fixture(scope="module")
def running() -> Iterator[Served]:
    with serve() as fake:
        yield fake


@pytest.fixture(scope="module")
def openai_client(running: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def anthropic_client(running: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=running.anthropic_url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def fake(running: Served) -> Served:
    running.provider.reset()
    return running


@pytest.fixture
def oai(fake: Served, openai_client: openai.OpenAI) -> openai.OpenAI:
    return openai_client


@pytest.fixture
def claude(fake: Served, anthropic_client: anthropic.Anthropic) -> anthropic.Anthropic:
    return anthropic_client


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client
