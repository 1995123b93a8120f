"""What comes up while the garbage collector runs: put off, because the collector runs anywhere, also inside a lock.

A stream that nobody reads to its end is booked when it is collected. Booking takes locks: those of the ledger, of a
backend's connections, of whoever listens to events. The code that the collector interrupted may hold any of them, and
it goes on only after the collector. So a thread does it, which is there as long as there is something to do.
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import logging
import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

Work = Callable[[], None]

log = logging.getLogger("capguard")

_waiting: SimpleQueue[Work] = SimpleQueue()  # the only queue that may be filled from inside the collector
_working = threading.Lock()
_collecting: int | None = None


def outside_the_collector(work: Work) -> None:
    """Do it here and now, or a moment later where the garbage collector is what called."""
    if _collecting == _thread.get_ident():
        later(work)
    else:
        work()


def later(work: Work) -> None:
    """Let a thread do it. Takes no lock that it would have to wait for."""
    _waiting.put(work)
    with contextlib.suppress(RuntimeError):  # the process ends: what is still held expires
        if not _working.locked():
            _thread.start_new_thread(_work, ())  # threading's own would take a lock


def flush() -> None:
    """Do what came up before, and wait for what another thread does of it. Not for code that may be collected."""
    _work(wait=True)


def _work(*, wait: bool = False) -> None:
    """All that waits, by one thread at a time."""
    while _working.acquire(blocking=wait):
        try:
            _empty()
        finally:
            _working.release()
        if _waiting.empty():  # else it came after the last look, while the lock told that somebody works
            return


def _empty() -> None:
    with contextlib.suppress(Empty):
        while True:
            _done(_waiting.get_nowait())


def _done(work: Work) -> None:
    try:
        work()
    except Exception:
        log.exception("capguard: what was dropped is not booked; its hold expires")


def _watch(phase: str, _: object) -> None:
    global _collecting  # noqa: PLW0603 - one collection at a time in a process
    _collecting = _thread.get_ident() if phase == "start" else None


def _forked() -> None:
    """What waits is the parent's to do, and its thread is not here."""
    global _waiting, _working
    _waiting, _working = SimpleQueue(), threading.Lock()


gc.callbacks.append(_watch)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forked)
