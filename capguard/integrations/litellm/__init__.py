"""Caps for LiteLLM: its SDK, its Router, its callbacks.

    capped = CappedLiteLLM(guard)                               # capped.completion(...), capped.router(router)
    litellm.callbacks = [CapguardCallback(guard)]               # async code that cannot change its call sites

Needs the extra `litellm`. Nothing of it is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capguard.integrations.litellm.callback import CapguardCallback
    from capguard.integrations.litellm.router import CappedRouter
    from capguard.integrations.litellm.sdk import CappedLiteLLM

__all__ = ["CapguardCallback", "CappedLiteLLM", "CappedRouter"]

_PLACES = {
    "CappedLiteLLM": "sdk",
    "CappedRouter": "router",
    "CapguardCallback": "callback",
    "proxy": "gateway.instance",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
