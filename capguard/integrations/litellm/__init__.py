"""Caps for LiteLLM in its three forms: SDK and Router, callback, proxy.

    capped = CappedLiteLLM(guard)                               # capped.completion(...), capped.router(router)
    litellm.callbacks = [CapguardCallback(guard)]               # async code that cannot change its call sites
    callbacks: capguard.integrations.litellm.proxy              # in the proxy's YAML, under litellm_settings

Needs the extra `litellm`. Nothing of it is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capguard.integrations.litellm.callback import CapguardCallback
    from capguard.integrations.litellm.gateway.hooks import ProxyCaps
    from capguard.integrations.litellm.router import CappedRouter
    from capguard.integrations.litellm.sdk import CappedLiteLLM

    proxy: ProxyCaps

__all__ = ["CapguardCallback", "CappedLiteLLM", "CappedRouter", "proxy"]

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
