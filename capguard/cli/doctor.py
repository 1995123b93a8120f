"""`capguard doctor`: whether the ledger can be used right now, and what weakens its promises."""

from __future__ import annotations

import typer

from capguard.cli import exits, show
from capguard.cli.opening import opened
from capguard.cli.options import DEFAULT_NAMESPACE, DEFAULT_URL, Json, Namespace, Url
from capguard.health import Health


def doctor(url: Url = DEFAULT_URL, namespace: Namespace = DEFAULT_NAMESPACE, as_json: Json = False) -> None:
    """Check the ledger: reachable, durable, its clock, what waits on this host. Exits with 3 where it is away."""
    with opened(url, {}, namespace) as guard:
        found = guard.health()
    if as_json:
        show.print_json(found.to_dict())
    else:
        _print(found)
    if not found:
        raise typer.Exit(exits.UNAVAILABLE)


def _print(found: Health) -> None:
    out = show.console()
    rows = [
        ("ledger", found.url),
        ("answers", "yes" if found else f"no: {found.why}"),
        ("clock", "" if found.clock_offset is None else f"{found.clock_offset:+.3f} s from this host's"),
        ("waiting here", f"{found.waiting} bookings, {found.let_through} open calls, in {found.outbox}"),
        ("prices", f"as of {found.prices_as_of}"),
    ]
    table = show.table("", "")
    for name, said in rows:
        if said:
            show.add(table, name, said)
    out.print(table)
    for warning in found.warnings:
        out.print(f"warning: {warning}", markup=False)
