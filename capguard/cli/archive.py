"""`capguard archive`: the older part of a journal moves from the store into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from capguard.backends.base import system_clock
from capguard.cli import show
from capguard.cli.options import DEFAULT_NAMESPACE, DEFAULT_URL, Json, Namespace, Url
from capguard.plugins.manager import open_backend

To = Annotated[Path, typer.Option("--to", help="The SQLite file; made where it is not there.")]
Keep = Annotated[float, typer.Option("--keep", min=24, help="Hours that entries stay in the store as well.")]


def archive(
    to: To, url: Url = DEFAULT_URL, namespace: Namespace = DEFAULT_NAMESPACE, keep: Keep = 48, as_json: Json = False
) -> None:
    """Copy the journal of a ledger in Redis into a file, then drop from the store what is old. Run it now and then.

    `verify`, `report` and `entries` read both together with `redis://...?archive=FILE`.
    """
    backend = open_backend(url, namespace=namespace, clock=system_clock)
    move = getattr(backend, "archive", None)
    if move is None:
        raise ValueError(f"{backend.url}: this ledger keeps its journal itself; allowed: redis://...")
    done = move(to.absolute(), round(keep * 3_600_000))
    backend.close()
    if as_json:
        show.print_json(done._asdict())
    else:
        show.console().print(
            f"{done.copied} entries copied, up to number {done.last}; {done.dropped} dropped", markup=False
        )
