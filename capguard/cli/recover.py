"""`capguard recover`: a ledger whose server has lost state is used again, once somebody has said so."""

from __future__ import annotations

from typing import Annotated

import typer

from capguard.backends.base import system_clock
from capguard.cli import show
from capguard.cli.options import DEFAULT_NAMESPACE, DEFAULT_URL, Namespace, Url
from capguard.lastknown import LastKnown
from capguard.plugins.manager import open_backend
from capguard.resilience.places import state_folder

AcceptLoss = Annotated[
    bool, typer.Option("--accept-loss", help="Go on with what is left: what was spent and lost counts no more.")
]


def recover(url: Url = DEFAULT_URL, namespace: Namespace = DEFAULT_NAMESPACE, accept_loss: AcceptLoss = False) -> None:
    """Use a ledger again whose server has lost state. Until then every process that saw more refuses it."""
    backend = open_backend(url, namespace=namespace, clock=system_clock)
    accept = getattr(backend, "accept_loss", None)
    if accept is None:
        raise ValueError(f"{backend.url}: such a ledger is not recovered; allowed: redis://... and sqlite:///...")
    if not accept_loss:
        raise ValueError("nothing is done without --accept-loss: what was spent and lost will count no more")
    dropped = accept()
    backend.close()
    LastKnown(state_folder(backend.url, namespace)).forget_seen()
    show.console().print(f"in use again; {dropped} open calls were lost with the entries that made them", markup=False)
