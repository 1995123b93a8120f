"""The plugins of this process, and what they are asked for: the backends that ship with capguard are one of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

import pluggy

from capguard.backends import builtin
from capguard.backends.base import Backend, Clock
from capguard.plugins import hookspecs
from capguard.pricing import counters
from capguard.pricing.sources import Bundled, ListFile, PriceSource, litellm_source


@lru_cache(1)
def plugin_manager() -> pluggy.PluginManager:
    """The one manager, made at the first use. Register a plugin of your own with `plugin_manager().register(...)`."""
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(builtin, "capguard")
    manager.load_setuptools_entrypoints(hookspecs.GROUP)
    counters.register(lambda model: manager.hook.capguard_token_counter(model=model))
    return manager


def open_backend(url: object, *, namespace: str, clock: Clock) -> Backend:
    """The backend behind `url`, a URL or a client of redis-py. Raises ValueError where no plugin serves its scheme."""
    if not isinstance(url, str) and not builtin.is_redis_client(url):
        raise ValueError(f"url: {type(url).__name__} is no URL; allowed: {builtin.URLS}, or a redis.Redis")
    backend: Backend | None = plugin_manager().hook.capguard_backend(url=url, namespace=namespace, clock=clock)
    if backend is None:
        named = urlsplit(url).scheme or url if isinstance(url, str) else type(url).__name__
        raise ValueError(f"no backend serves {named}; allowed: {builtin.URLS}")
    return backend


def open_prices(source: PriceSource | str | None) -> PriceSource:
    """The price list that a Guard is given: `bundled`, `litellm`, what a plugin knows, or a file.

    Raises ValueError where it is none of these.
    """
    if source is None or source == "bundled":
        return Bundled()
    if not isinstance(source, str):
        return source
    plugged: PriceSource | None = plugin_manager().hook.capguard_prices(source=source)
    if plugged is not None:
        return plugged
    return litellm_source() if source == "litellm" else ListFile(source)


def plugged_observers() -> tuple[Callable[..., object], ...]:
    """The observers of events among the plugins, one by one: where one fails, the others are told all the same."""
    return tuple(plugin.function for plugin in plugin_manager().hook.capguard_event.get_hookimpls())
