"""What is remembered by id, of the last so many: for what LiteLLM may never speak of again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Bounded(Generic[T]):
    """A mapping for many threads that forgets the oldest beyond `most`."""

    def __init__(self, most: int):
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, id: object) -> bool:
        return id in self._kept

    def put(self, id: str, value: T) -> list[str]:
        """Remember `value`; the ids that had to go for it."""
        with self._lock:
            self._kept[id] = value
            self._kept.move_to_end(id)
            return [self._kept.popitem(last=False)[0] for _ in range(len(self._kept) - self._most)]

    def get(self, id: str) -> T | None:
        return self._kept.get(id)

    def take(self, id: str) -> T | None:
        """Give `value` away, once."""
        with self._lock:
            return self._kept.pop(id, None)
