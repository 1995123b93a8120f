"""Layers of capped frameworks charge once: LangChain over LiteLLM over the SDK of OpenAI."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import openai
import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from capguard import CapExceeded, Guard
from capguard.integrations.langchain import CapguardCallbackHandler, capped_model
from capguard.integrations.litellm import CappedLiteLLM
from capguard.integrations.openai import cap
from capguard.testing.provider import Served
from tests.kit import PRICES, kinds, spent

POLICY = {"prices": PRICES, "caps": [{"id": "monthly", "limit": 5}]}


class OverLiteLLM(BaseChatModel):
    """A chat model of LangChain that asks LiteLLM, which asks with a client of OpenAI's SDK; all three are capped."""

    guard: Any
    client: Any
    model: str = "big"

    @property
    def _llm_type(self) -> str:
        return "over-litellm"

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        reply = CappedLiteLLM(self.guard).completion(
            model=f"openai/{self.model}",
            messages=[{"role": "user", "content": str(messages[-1].content)}],
            max_tokens=100,
            user="u1",
            client=self.client,
        )
        said, usage = reply.choices[0].message.content, reply.usage
        told = {
            "input_tokens": usage.prompt_tokens,
            "output_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
        }
        message = AIMessage(said, usage_metadata=told, response_metadata={"model_name": self.model})
        return ChatResult(generations=[ChatGeneration(message=message)])


def by_handler(guard: Guard, model: OverLiteLLM) -> object:
    return model.invoke("hi", config={"callbacks": [CapguardCallbackHandler(guard)], "metadata": {"user_id": "u1"}})


def by_capped_model(guard: Guard, model: OverLiteLLM) -> object:
    return capped_model(model, guard, user="u1").invoke("hi")


@pytest.mark.parametrize("ask", [by_handler, by_capped_model])
def test_three_layers_charge_once(ask: Callable[[Guard, OverLiteLLM], object], fake: Served) -> None:
    with (
        Guard("memory://", policy=POLICY) as guard,
        openai.OpenAI(base_url=fake.url, api_key="any", max_retries=0) as client,
    ):
        ask(guard, OverLiteLLM(guard=guard, client=cap(client, guard, user="u1")))
        assert kinds(guard) == ["reserve", "settle"]
        assert 0 < spent(guard) < Decimal("0.01")
        guard.override(user="u1", cap="monthly", limit=0)
        with pytest.raises(CapExceeded):
            ask(guard, OverLiteLLM(guard=guard, client=cap(client, guard, user="u1")))
        assert len(fake.provider.requests) == 1
