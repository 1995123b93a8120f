"""The models that one call may go to, one after the other: LiteLLM's `fallbacks=`, tried here so each is capped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from capguard.errors import CapguardError
from capguard.integrations.litellm import host


class Models:
    """Iterates over the arguments of every attempt: the call's own model, then the fallbacks, until one answers.

    As LiteLLM does: a fallback is a model's name or a mapping that changes more arguments; a prompt that is too long
    goes to the model that `context_window_fallback_dict` names. A refusal by capguard ends it: a cap is no failure.
    """

    def __init__(self, kwargs: dict[str, Any]):
        self.failure: BaseException = RuntimeError("no model was tried")
        self._kwargs = {key: value for key, value in kwargs.items() if key not in _OURS}
        self._left: list[Any] = list(kwargs.get("fallbacks") or ())
        self._larger: Mapping[str, str] = kwargs.get("context_window_fallback_dict") or {}
        if host.litellm().model_fallbacks:
            raise ValueError("litellm.model_fallbacks: cannot be capped; allowed: fallbacks=[...] in each call")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield self._kwargs
        if (larger := self._larger.get(self._kwargs.get("model") or "")) and self._was_too_long():
            yield {**self._kwargs, "model": larger}
        for fallback in self._left:
            changed = dict(fallback) if isinstance(fallback, Mapping) else {"model": fallback}
            yield {**self._kwargs, **changed}

    @contextlib.contextmanager
    def trying(self) -> Iterator[None]:
        """Keeps a failure of one model for as long as there is another."""
        try:
            yield
        except CapguardError:
            raise
        except Exception as error:
            if not self._left and not self._larger:
                raise
            self.failure = error

    def _was_too_long(self) -> bool:
        return isinstance(self.failure, host.litellm().ContextWindowExceededError)


_OURS = ("fallbacks", "context_window_fallback_dict")
