"""Caps for LangChain: a callback handler, agent middleware, capped models and embeddings.

    install(guard)                                              # every model of the process, or
    chain.invoke(x, {"callbacks": [CapguardCallbackHandler(guard)], "metadata": {"user_id": "ada"}})

Needs the extra `langchain`; the middleware needs `langchain` itself. Nothing of them is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from capguard.errors import missing_extra

if TYPE_CHECKING:
    from capguard.integrations.langchain.embeddings import CappedEmbeddings
    from capguard.integrations.langchain.errors import RETRYABLE, ModelCapExceeded
    from capguard.integrations.langchain.everywhere import capped_langchain, install, uninstall
    from capguard.integrations.langchain.handler import CapguardCallbackHandler
    from capguard.integrations.langchain.middleware import CapguardAgentMiddleware
    from capguard.integrations.langchain.model import CappedChatModel, capped_model

__all__ = [
    "RETRYABLE",
    "CapguardAgentMiddleware",
    "CapguardCallbackHandler",
    "CappedChatModel",
    "CappedEmbeddings",
    "ModelCapExceeded",
    "capped_langchain",
    "capped_model",
    "install",
    "uninstall",
]

_PLACES = {
    "RETRYABLE": "errors",
    "CapguardAgentMiddleware": "middleware",
    "CapguardCallbackHandler": "handler",
    "CappedChatModel": "model",
    "CappedEmbeddings": "embeddings",
    "ModelCapExceeded": "errors",
    "capped_langchain": "everywhere",
    "capped_model": "model",
    "install": "everywhere",
    "uninstall": "everywhere",
}
_LIBRARIES = {"langchain_core": "langchain", "langchain": "agents", "langgraph": "agents"}


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used. Raises MissingExtra where LangChain is not installed."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_PLACES[name]}")
    except ModuleNotFoundError as missing:
        library = (missing.name or "").partition(".")[0]
        if library not in _LIBRARIES:
            raise
        missing_extra(f"capguard.integrations.langchain.{name}", _LIBRARIES[library], missing)
    return getattr(module, name)
