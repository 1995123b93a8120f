"""What a fake provider remembers: its settings, how often it was called, and with what."""

from __future__ import annotations

from collections import Counter, deque
from threading import Lock
from typing import Any, NamedTuple

from capguard.testing.provider.settings import Settings

_REMEMBERED = 1000


class Seen(NamedTuple):
    """One request that reached the provider: its path, and its JSON body, None where that was no JSON object."""

    path: str
    body: dict[str, Any] | None


class Provider:
    """The state of one fake provider. Any thread may read and steer it while the server answers in its own."""

    def __init__(self, settings: Settings | None = None):
        self._first = settings or Settings()
        self._lock = Lock()
        self._clear()

    def _clear(self) -> None:
        self._settings = self._first
        self._by_path: Counter[str] = Counter()
        self._requests: deque[Seen] = deque(maxlen=_REMEMBERED)
        self._failed_first = 0
        self._failed = 0

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    @property
    def calls(self) -> int:
        """Calls that reached the provider, failed ones among them."""
        with self._lock:
            return self._by_path.total()

    @property
    def requests(self) -> list[Seen]:
        """The last 1,000 requests, oldest first."""
        with self._lock:
            return list(self._requests)

    def counts(self) -> dict[str, Any]:
        """`calls`, how many of them the settings or a header made fail, and `by_path`."""
        with self._lock:
            return {"calls": self._by_path.total(), "failed": self._failed, "by_path": dict(self._by_path)}

    def set(self, **changes: Any) -> Settings:
        """Change settings for the calls that arrive from now on; `fail_first` counts anew.

        Raises ValueError for a setting that does not exist or a value that is refused; nothing changes then.
        """
        with self._lock:
            self._settings = self._settings.changed(**changes)
            if "fail_first" in changes:
                self._failed_first = 0
            return self._settings

    def reset(self) -> None:
        """Forget every call and go back to the settings of the start."""
        with self._lock:
            self._clear()

    def arrived(self, path: str, body: dict[str, Any] | None) -> None:
        """Count a call, before anything is decided about it."""
        with self._lock:
            self._by_path[path] += 1
            self._requests.append(Seen(path, body))

    def failure(self, settings: Settings) -> int | None:
        """The status that this call fails with under its `settings`, or None."""
        with self._lock:
            if self._failed_first < settings.fail_first:
                self._failed_first += 1
                self._failed += 1
                return settings.fail_status or 500
            if settings.fail_first or settings.fail_status is None:
                return None
            self._failed += 1
            return settings.fail_status
