"""The ids of the calls that a wrapper charges, so that a callback of the same process leaves them alone."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

_MOST = 100_000


class Covered:
    """The last ids, any thread's. LiteLLM hands a call's id to every hook, also long after the call has ended."""

    def __init__(self, most: int = _MOST):
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def add(self, call_id: str) -> None:
        with self._lock:
            self._ids[call_id] = None
            self._ids.move_to_end(call_id)
            while len(self._ids) > self._most:
                self._ids.popitem(last=False)

    def __contains__(self, call_id: object) -> bool:
        return call_id in self._ids


COVERED: Final = Covered()
"""One for the process: LiteLLM's callbacks are global too."""
