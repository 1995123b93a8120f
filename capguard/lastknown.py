"""A copy on this host of what holds: the published policy and the users' profiles, for when the backend is away.

A process that starts then, or meets a user for the first time, goes by it. Whatever the backend says counts more.
Beside them stands the newest that was seen of the store: one that is behind it later has lost state.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from capguard.ledger.outcomes import Revised

log = logging.getLogger("capguard")

PROFILES = 10_000
"""Profiles in the copy; the ones that were learned last."""

AFTER_S = 1.0
"""How long a change waits for others before all of them are written."""


class LastKnown:
    """The copy in one folder, shared by the processes of this host. Nothing is read or written before it is needed."""

    def __init__(self, folder: Path):
        self._path = folder / "known.json"
        self._lock = threading.Lock()
        self._policy: Revised | None = None
        self._profiles: OrderedDict[str, Revised] = OrderedDict()
        self._writer: threading.Thread | None = None
        self._seen: Callable[[], Sequence[Any] | None] = _nothing
        _living.add(self)

    def policy(self) -> Revised | None:
        """The policy as it was known last on this host."""
        found = self._read().get("policy")
        return None if found is None else Revised(*found)

    def profiles(self) -> dict[str, Revised]:
        """The profiles as they were known last on this host."""
        return {user: Revised(*found) for user, found in self._read().get("profiles", {}).items()}

    def seen(self) -> Sequence[Any] | None:
        """The newest that this host had seen of the store."""
        return self._read().get("seen")

    def watch(self, seen: Callable[[], Sequence[Any] | None]) -> None:
        """Write down, with everything else, what `seen` gives then."""
        self._seen = seen

    def forget_seen(self) -> None:
        """The store may begin anew: what was seen of it counts no more."""
        if "seen" in (known := dict(self._read())):
            del known["seen"]
            self._replace(known)

    def note_policy(self, revised: Revised) -> None:
        with self._lock:
            self._policy = revised
        self.soon()

    def note_profile(self, user: str, revised: Revised) -> None:
        with self._lock:
            self._profiles[user] = revised
            self._profiles.move_to_end(user)
            while len(self._profiles) > PROFILES:
                self._profiles.popitem(last=False)
        self.soon()

    def forked(self) -> None:
        """A child has not its parent's writer, which may have held the lock."""
        self._lock, self._writer = threading.Lock(), None

    def write(self) -> None:
        """Write what was noted beside what others have written. A disk that refuses is logged: the copy is a help."""
        with self._lock:
            policy, profiles = self._policy, dict(self._profiles)
            self._policy, self._profiles = None, OrderedDict()
        known, seen = self._read(), self._seen()
        seen = known.get("seen") if seen is None else list(seen)
        if policy is None and not profiles and seen == known.get("seen"):
            return
        newest = OrderedDict(known.get("profiles", {}))
        for user, revised in profiles.items():
            newest.pop(user, None)
            newest[user] = revised
        kept = dict(list(newest.items())[-PROFILES:])
        try:
            self._replace({"policy": policy or known.get("policy"), "profiles": kept, "seen": seen})
        except OSError as error:
            log.warning("capguard: no copy of what holds can be kept on this host: %s", error)

    def soon(self) -> None:
        """Write within a second or so, in a thread of its own."""
        with self._lock:
            if self._writer is None or not self._writer.is_alive():
                self._writer = threading.Thread(target=_write_soon, args=(weakref.ref(self),), daemon=True)
                self._writer.start()

    def _read(self) -> Mapping[str, Any]:
        try:
            found = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("capguard: the copy of what holds cannot be read: %s", error)
            return {}
        return found if isinstance(found, dict) else {}

    def _replace(self, known: Mapping[str, Any]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(known, file, ensure_ascii=False, separators=(",", ":"))
        fresh.replace(self._path)


def _nothing() -> None:
    return None


def _write_soon(copy: weakref.ref[LastKnown]) -> None:
    threading.Event().wait(AFTER_S)
    if (found := copy()) is not None:
        found.write()


_living: weakref.WeakSet[LastKnown] = weakref.WeakSet()


def _write_all() -> None:
    for each in list(_living):
        each.write()


def _forked() -> None:
    for each in list(_living):
        each.forked()


atexit.register(_write_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
