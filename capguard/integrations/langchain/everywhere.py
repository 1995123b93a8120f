"""The handler for every model of a block, or of the whole process: LangChain asks a hook for it at each call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from langchain_core.tracers.context import register_configure_hook

from capguard.guard import Guard
from capguard.integrations.langchain.handler import CapguardCallbackHandler

_here: ContextVar[CapguardCallbackHandler | None] = ContextVar("capguard_langchain", default=None)
_installed: list[CapguardCallbackHandler] = []


class _Hook:
    """What LangChain takes for a context variable: the handler of the block, else the one of the process."""

    def get(self) -> CapguardCallbackHandler | None:
        return _here.get() or (_installed[-1] if _installed else None)


# A hook cannot be taken back, so there is one for good. A handler that a call names itself goes before it.
register_configure_hook(cast("ContextVar[Any]", _Hook()), inheritable=True, handle_class=CapguardCallbackHandler)


def install(guard: Guard | None = None, **settings: Any) -> CapguardCallbackHandler:
    """From now on every model of this process is capped, in every thread. `settings` are those of the handler.

    A call that names a `CapguardCallbackHandler` of its own is left to that one. A second `install` replaces the first.
    """
    handler = CapguardCallbackHandler(guard, **settings)
    _installed[:] = [handler]
    return handler


def uninstall() -> None:
    """Undo `install`. Calls that are on their way are still booked."""
    _installed.clear()


@contextmanager
def capped_langchain(guard: Guard | None = None, **settings: Any) -> Iterator[CapguardCallbackHandler]:
    """Within the block, every model that is called in this context is capped, also in tasks and threads of LangChain's.

    Threads that were started by hand do not see the context: `carry` takes it there, `install` covers them all.
    """
    handler = CapguardCallbackHandler(guard, **settings)
    before = _here.set(handler)
    try:
        yield handler
    finally:
        _here.reset(before)
