"""The functions of LiteLLM under their own names, sync and async: what its package and its Router have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class Verbs(ABC):
    """Ten functions with the arguments and replies of LiteLLM's, and `identity` beside them."""

    @abstractmethod
    def _run(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], identity: Any) -> Any: ...

    @abstractmethod
    async def _arun(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], identity: Any) -> Any: ...

    def completion(self, *args: Any, identity: Any = None, **kwargs: Any) -> Any:
        """As LiteLLM's `completion`."""
        return self._run("completion", args, kwargs, identity)

    async def acompletion(self, *args: Any, identity: Any = None, **kwargs: Any) -> Any:
        """As LiteLLM's `acompletion`."""
        return await self._arun("completion", args, kwargs, identity)

    def text_completion(self, *args: Any, identity: Any = None, **kwargs: Any) -> Any:
        """As LiteLLM's `text_completion`."""
        return self._run("text_completion", args, kwargs, identity)

    async def atext_completion(self, *args: Any, identity: Any = None, **kwargs: Any) -> Any:
        """As LiteLLM's `atext_completion`."""
        return await self._arun("text_completion", args, kwargs, identity)

    def embedding(self, *args: Any, identity: Any = None, **kwargs: Any) -> Any:
        """As LiteLLM's `embedding`."""
        return self._run("embedding", args, kwargs, identity)

    async def aembedding(self, *args: Any, identity: Any = None, **kwargs: Any) -> Any:
        """As LiteLLM's `aembedding`."""
        return await self._arun("embedding", args, kwargs, identity)

    def responses(self, *args: Any, identity: Any = None, **kwargs: Any) -> Any:
        """As LiteLLM's `responses`."""
        return self._run("responses", args, kwargs, identity)

    async def aresponses(self, *args: Any, identity: Any = None, **kwargs: Any) -> Any:
        """As LiteLLM's `aresponses`."""
        return await self._arun("responses", args, kwargs, identity)

    def image_generation(self, *args: Any, identity: Any = None, **kwargs: Any) -> Any:
        """As LiteLLM's `image_generation`."""
        return self._run("image_generation", args, kwargs, identity)

    async def aimage_generation(self, *args: Any, identity: Any = None, **kwargs: Any) -> Any:
        """As LiteLLM's `aimage_generation`."""
        return await self._arun("image_generation", args, kwargs, identity)
