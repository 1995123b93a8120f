"""Where a process keeps what must outlive it: a folder of its user, one for each ledger."""

from __future__ import annotations

import os
import tempfile
from hashlib import blake2b
from pathlib import Path

VARIABLE = "CAPGUARD_STATE"


def state_folder(url: str, namespace: str) -> Path:
    """The folder for one ledger: below CAPGUARD_STATE, else the service's or the user's own state directory."""
    ledger = blake2b(f"{url}\n{namespace}".encode(), digest_size=8).hexdigest()
    return _base() / ledger


def _base() -> Path:
    if given := os.environ.get(VARIABLE):
        return Path(given).absolute()
    if service := os.environ.get("STATE_DIRECTORY"):  # systemd's StateDirectory=
        return Path(service.split(":")[0]) / "capguard"
    if state := os.environ.get("XDG_STATE_HOME"):
        return Path(state) / "capguard"
    home = Path("~").expanduser()
    if str(home) != "~" and os.access(home, os.W_OK):
        return home / ".local" / "state" / "capguard"
    return Path(tempfile.gettempdir()) / f"capguard-{os.geteuid() if hasattr(os, 'geteuid') else 'user'}"
