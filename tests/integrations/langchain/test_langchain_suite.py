"""The suites that LangChain holds every integration to, on a capped ChatOpenAI and capped OpenAIEmbeddings."""

from __future__ import annotations

from typing import Any

import pytest

unit_tests = pytest.importorskip("langchain_tests.unit_tests", reason="langchain-tests is not installed")

from langchain_openai import ChatOpenAI, OpenAIEmbeddings  # noqa: E402

from capguard import Guard  # noqa: E402
from capguard.integrations.langchain import CappedChatModel, CappedEmbeddings  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Received a Pydantic BaseModel V1 schema:UserWarning")

GUARD = Guard("memory://", policy={})


class CappedOpenAI(CappedChatModel):
    """Made as ChatOpenAI is made, which is what the suite does."""

    def __init__(self, **params: Any):
        super().__init__(capped=ChatOpenAI(**{"api_key": "any", **params}), guard=GUARD)


class CappedOpenAIEmbeddings(CappedEmbeddings):
    def __init__(self, **params: Any):
        super().__init__(OpenAIEmbeddings(api_key="any", **params), GUARD)


class TestCappedChatModel(unit_tests.ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[CappedOpenAI]:
        return CappedOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "gpt-4o-mini"}


class TestCappedEmbeddings(unit_tests.EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[CappedOpenAIEmbeddings]:
        return CappedOpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "text-embedding-3-small"}
