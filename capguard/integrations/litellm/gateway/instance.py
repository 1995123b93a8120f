"""The callback that a proxy's YAML names: made when the proxy loads it, so that a wrong policy stops its start."""

from __future__ import annotations

from capguard.guard import Guard
from capguard.integrations.litellm.gateway.hooks import ProxyCaps
from capguard.integrations.litellm.gateway.settings import of_the_proxy

_settings = of_the_proxy()
_policy = None if _settings.policy is None else str(_settings.policy)

proxy = ProxyCaps(Guard(_settings.url, policy=_policy, namespace=_settings.namespace), _settings)
