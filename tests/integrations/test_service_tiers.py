"""A tier of service with prices of its own is held at them, through whichever adapter it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from capguard import Guard
from capguard.integrations.openai import cap
from capguard.testing.provider import Served
from tests.kit import MESSAGES

POLICY = {"caps": [{"id": "monthly", "limit": 5}]}
Ask = Callable[[Guard, Served, dict[str, Any]], object]


def by_the_sdk(guard: Guard, fake: Served, tier: dict[str, Any]) -> object:
    with openai.OpenAI(base_url=fake.url, api_key="any", max_retries=0) as client:
        capped = cap(client, guard, user="u1")
        return capped.chat.completions.create(model="gpt-5", messages=MESSAGES, max_completion_tokens=100, **tier)


def by_litellm(guard: Guard, fake: Served, tier: dict[str, Any]) -> object:
    from capguard.integrations.litellm import CappedLiteLLM

    return CappedLiteLLM(guard).completion(
        model="openai/gpt-5", messages=MESSAGES, max_tokens=100, user="u1", api_base=fake.url, api_key="any", **tier
    )


def by_langchain(guard: Guard, fake: Served, tier: dict[str, Any]) -> object:
    from langchain_openai import ChatOpenAI

    from capguard.integrations.langchain import CapguardCallbackHandler

    model = ChatOpenAI(model="gpt-5", base_url=fake.url, api_key="any", max_tokens=100, max_retries=0, **tier)  # type: ignore[arg-type]
    return model.invoke("hello", config={"callbacks": [CapguardCallbackHandler(guard)], "metadata": {"user_id": "u1"}})


@pytest.mark.parametrize("ask", [by_the_sdk, by_litellm, by_langchain])
def test_it_is_held_at_its_price(ask: Ask, fake: Served) -> None:
    """Half the price, the price, twice the price."""
    held = {}
    for tier in ("flex", None, "priority"):
        with Guard("memory://", policy=POLICY) as guard:
            ask(guard, fake, {} if tier is None else {"service_tier": tier})
            (reserve,) = [entry for entry in guard.entries() if entry.kind == "reserve"]
            held[tier] = reserve.amounts["usd"]
    assert held["flex"] * 2 == held[None] == held["priority"] / 2
