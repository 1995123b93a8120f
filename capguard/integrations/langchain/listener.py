"""The metadata of the config that a model is called with: a model itself is not told, its callbacks are."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler

_metadata: ContextVar[Mapping[str, Any]] = ContextVar("capguard_langchain_metadata")


class Listener(BaseCallbackHandler):
    """Sits on a capped model and keeps the metadata of its run for the code that comes next in the same context."""

    run_inline = True
    ignore_chain = True
    ignore_agent = True
    ignore_retriever = True
    ignore_retry = True
    ignore_custom_event = True

    def on_chat_model_start(self, *_args: Any, metadata: Mapping[str, Any] | None = None, **_told: Any) -> None:
        _metadata.set(metadata or {})


def metadata_here() -> Mapping[str, Any]:
    """The metadata of the run that has just begun here; empty where the model was called by no run."""
    return _metadata.get({})
