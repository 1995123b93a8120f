"""Opening a ledger to look at it or to steer it: one that is there. Only `policy push` may begin a new one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from capguard.backends.base import system_clock
from capguard.backends.disabled import VARIABLE, is_disabled
from capguard.cli.options import DEFAULT_NAMESPACE
from capguard.errors import PolicyError
from capguard.guard import Guard
from capguard.plugins.manager import open_backend


def opened(
    url: str, policy: dict[str, Any] | str | os.PathLike[str] | None, namespace: str = DEFAULT_NAMESPACE
) -> Guard:
    """A Guard on a ledger that exists; without `policy`, by the one that is published there.

    Raises ValueError for a SQLite file that is not there, as `refuse_unseen`, and where no policy is published.
    Otherwise as `Guard`.
    """
    refuse_unseen(url)
    if urlsplit(url).scheme == "sqlite":
        _must_be_there(url, namespace)
    try:
        return Guard(url, policy=policy, namespace=namespace)
    except PolicyError as error:
        if error.findings or policy is not None:
            raise
        raise ValueError(
            "no policy is published in this ledger; allowed: --policy FILE, or `capguard policy push FILE` before"
        ) from None


def refuse_unseen(url: str) -> None:
    """Raise ValueError for `memory://`, which no other process can see, and while CAPGUARD_DISABLED is set."""
    refuse_disabled()
    if urlsplit(url).scheme == "memory":
        raise ValueError(f"{url}: a ledger in memory is seen by its own process only; allowed: sqlite:///PATH")


def refuse_disabled() -> None:
    """Raise ValueError while CAPGUARD_DISABLED is set."""
    if is_disabled():
        raise ValueError(
            f"{VARIABLE} is set: nothing is booked and every ledger looks empty; unset it for this command"
        )


def _must_be_there(url: str, namespace: str) -> None:
    backend = open_backend(url, namespace=namespace, clock=system_clock)  # knows its file, opens it when first asked
    file = Path(backend.url.removeprefix("sqlite:///"))
    backend.close()
    if not file.is_file():
        raise ValueError(f"{file.absolute()}: no such ledger; allowed: the SQLite file that the application writes")
