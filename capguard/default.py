"""The Guard of this process: what `@capped` and the adapters use where they are given none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, overload

from capguard.guard import Guard

_lock = threading.Lock()
_guard: Guard | None = None


@overload
def configure(guard: Guard) -> Guard: ...
@overload
def configure(guard: str, **options: Any) -> Guard: ...
def configure(guard: Guard | str, **options: Any) -> Guard:
    """Set the Guard of this process: a Guard, or what makes one: `configure("sqlite:///capguard.db", policy=...)`.

    A Guard that stood there before is not closed. Raises TypeError for anything else.
    """
    made = Guard(guard, **options) if isinstance(guard, str) else guard
    if not isinstance(made, Guard):
        raise TypeError(f"configure({guard!r:.60}): allowed: a Guard, or the URL of one and its options")
    _replace(made)
    return made


def default_guard() -> Guard:
    """The Guard of `configure`, else one from the environment, made once. Raises PolicyError where neither is there."""
    global _guard  # noqa: PLW0603 - the one default of the process
    with _lock:
        if _guard is None:
            _guard = Guard.from_env()
        return _guard


@contextmanager
def default_is(guard: Guard | None) -> Iterator[None]:
    """Within the block, `guard` is the process's Guard, None for none yet: for tests."""
    before = _replace(guard)
    try:
        yield
    finally:
        _replace(before)


def _replace(guard: Guard | None) -> Guard | None:
    global _guard
    with _lock:
        before, _guard = _guard, guard
    return before
