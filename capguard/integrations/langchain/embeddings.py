"""Embeddings under caps: LangChain fires no callbacks for them, so it takes an object of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.embeddings import Embeddings

from capguard.call import Call
from capguard.default import default_guard
from capguard.guard import Guard
from capguard.integrations.langchain.errors import final_for_langchain
from capguard.policy.document import Cap

_NAMES = ("model", "model_name", "model_id", "deployment")


class CappedEmbeddings(Embeddings):
    """`CappedEmbeddings(OpenAIEmbeddings(...), guard)`: the same vectors, `CapExceeded` before anything is sent.

    Vectors come without a usage, so the texts are counted, and the entry is flagged `counted`. The identity comes from
    the fields given here, else from `identify`: embeddings have no config. `model` names the model where the embeddings
    do not, or where its price is listed under another name. Without `guard`, the process's own holds.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        guard: Guard | None = None,
        *,
        model: str | None = None,
        caps: Sequence[Cap] = (),
        **identity: Any,
    ):
        self.embeddings = embeddings
        self._guard = guard
        self._model = model or next((name for each in _NAMES if (name := getattr(embeddings, each, None))), None)
        self._caps = list(caps)
        self._identity = identity

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        with final_for_langchain(), self._call(texts) as call:
            vectors = self.embeddings.embed_documents(texts)
            _count(call)
            return vectors

    def embed_query(self, text: str) -> list[float]:
        with final_for_langchain(), self._call([text]) as call:
            vector = self.embeddings.embed_query(text)
            _count(call)
            return vector

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        with final_for_langchain():
            async with self._call(texts) as call:
                vectors = await self.embeddings.aembed_documents(texts)
                _count(call)
                return vectors

    async def aembed_query(self, text: str) -> list[float]:
        with final_for_langchain():
            async with self._call([text]) as call:
                vector = await self.embeddings.aembed_query(text)
                _count(call)
                return vector

    def _call(self, texts: Sequence[str]) -> Call:
        guard = self._guard or default_guard()
        return guard.call(model=self._model, input=list(texts), caps=self._caps, **self._identity)


def _count(call: Call) -> None:
    """Book the input as it was counted; there is no output. An inner layer that charged the call already knows more."""
    if not call.recorded:
        call.read_along()
        call.stream_ended()
