"""`capguard recover`: a ledger whose server has lost state is used again, once somebody has said so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from capguard.backends.base import Backend, run, system_clock
from capguard.cli import show
from capguard.cli.options import DEFAULT_NAMESPACE, DEFAULT_URL, Namespace, Url
from capguard.lastknown import LastKnown
from capguard.plugins.manager import open_backend
from capguard.resilience.places import state_folder
from capguard.resilience.strays import retold

FromArchive = Annotated[
    Path | None,
    typer.Option("--archive", help="The file of `capguard archive`: everything is made anew from its journal."),
]
AcceptLoss = Annotated[
    bool, typer.Option("--accept-loss", help="Go on with what is left: what was spent and lost counts no more.")
]


def recover(
    url: Url = DEFAULT_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    archive: FromArchive = None,
    accept_loss: AcceptLoss = False,
) -> None:
    """Use a ledger again whose server has lost state. Until then every process that saw more refuses it."""
    if (archive is None) == (not accept_loss):
        raise ValueError(
            "allowed: --archive FILE, which makes the ledger anew from its journal, or --accept-loss: what was spent"
            " and lost will count no more; one of them"
        )
    backend = open_backend(url, namespace=namespace, clock=system_clock)
    said = _accepted(backend) if archive is None else _restored(backend, archive)
    backend.close()
    LastKnown(state_folder(backend.url, namespace)).forget_seen()
    show.console().print(said, markup=False)


def _accepted(backend: Backend) -> str:
    accept = getattr(backend, "accept_loss", None)
    if accept is None:
        raise ValueError(f"{backend.url}: such a ledger is not recovered; allowed: redis://... and sqlite:///...")
    return f"in use again; {accept()} open calls were lost with the entries that made them"


def _restored(backend: Backend, archive: Path) -> str:
    restore = getattr(backend, "restore", None)
    if restore is None:
        raise ValueError(f"{backend.url}: this ledger keeps its journal itself; allowed: redis://...")
    done = restore(archive.absolute())
    for flow in retold(done.strays):
        run(flow, backend)
    backend.told(archive.absolute())  # type: ignore[attr-defined]
    other = f"; {len(done.strays)} entries of another life of it were told" if done.strays else ""
    return (
        f"in use again, made anew from {done.entries} entries, {done.added} of which no archive had:"
        f" {done.meters} meters, {done.held} calls in flight, {done.profiles} profiles{other}"
    )
