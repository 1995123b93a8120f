"""Plugins: `from capguard.plugins import hookimpl`, then implement a hook of `capguard.plugins.hookspecs`."""

from capguard.plugins.hookspecs import hookimpl, hookspec

__all__ = ["hookimpl", "hookspec"]
