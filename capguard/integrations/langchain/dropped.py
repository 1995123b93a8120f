"""Work that came up inside the garbage collector: done by one thread of its own, in the order it came."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[], None]

_waiting: SimpleQueue[Work] = SimpleQueue()  # the only queue that may be filled from inside the collector
_starting = threading.Lock()
_worker: tuple[int, threading.Thread] | None = None


def later(work: Work) -> None:
    """Let the thread do it. Takes no lock: the collector may run in code that holds one."""
    _waiting.put(work)


def ready() -> None:
    """See that the thread runs, in this process: a fork leaves its parent's behind."""
    global _worker  # noqa: PLW0603 - the one thread of the process
    if _worker is not None and _worker[0] == os.getpid():
        return
    with _starting:
        if _worker is None or _worker[0] != os.getpid():
            thread = threading.Thread(target=_work, name="capguard-langchain", daemon=True)
            thread.start()
            _worker = os.getpid(), thread


def flush() -> None:
    """Wait until everything that came up before is done."""
    ready()
    done = threading.Event()
    later(done.set)
    done.wait()


def _work() -> None:
    while True:
        _waiting.get()()
