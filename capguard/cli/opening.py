"""Opening a ledger to look at it: one that is there. Nothing is created by looking."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from capguard.backends.disabled import VARIABLE, is_disabled
from capguard.guard import Guard


def opened(url: str, policy: dict[str, Any] | str | os.PathLike[str]) -> Guard:
    """A Guard on a ledger that exists.

    Raises ValueError for a SQLite file that is not there, for `memory://`, which no other process can see, and while
    CAPGUARD_DISABLED is set, because everything would look empty. Otherwise as `Guard`.
    """
    refuse_disabled()
    parts = urlsplit(url)
    if parts.scheme == "memory":
        raise ValueError(f"{url}: a ledger in memory is seen by its own process only; allowed: sqlite:///PATH")
    if parts.scheme == "sqlite" and len(parts.path) > 1:
        _must_be_there(Path(unquote(parts.path[1:])))
    return Guard(url, policy=policy)


def refuse_disabled() -> None:
    """Raise ValueError while CAPGUARD_DISABLED is set."""
    if is_disabled():
        raise ValueError(
            f"{VARIABLE} is set: nothing is booked and every ledger looks empty; unset it for this command"
        )


def _must_be_there(file: Path) -> None:
    if not file.is_file():
        raise ValueError(f"{file.absolute()}: no such ledger; allowed: the SQLite file that the application writes")
