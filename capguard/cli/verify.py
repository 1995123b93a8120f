"""`capguard verify`: every meter rebuilt from the journal."""

from __future__ import annotations

from typing import Any

import typer

from capguard.cli import exits, show
from capguard.cli.opening import opened
from capguard.cli.options import DEFAULT_NAMESPACE, DEFAULT_URL, Json, Namespace, Url
from capguard.journal import MeterDifference, Verification


def verify(url: Url = DEFAULT_URL, namespace: Namespace = DEFAULT_NAMESPACE, as_json: Json = False) -> None:
    """Rebuild every meter from the journal and compare. Exits with 1 where they differ."""
    with opened(url, {}, namespace) as guard:
        found = guard.verify()
    if as_json:
        show.print_json(to_dict(found))
    else:
        _print(found)
    if not found:
        raise typer.Exit(exits.NO)


def to_dict(found: Verification) -> dict[str, Any]:
    """Plain JSON; amounts are in the parts that the meter counts."""
    return {
        "ok": bool(found),
        "differences": [_difference(each) for each in found.differences],
        "complete": found.complete,
        "why": found.why,
        "entries": found.entries,
        "meters": found.meters,
        "open": found.open,
    }


def sentence(found: Verification) -> str:
    """The result in one line."""
    number = len(found.differences)
    ending = "" if found.complete else f"; the journal is not complete: {found.why}"
    return f"{number} difference{'s' * (number != 1)} in {found.entries} entries, {found.meters} meters{ending}"


def _difference(each: MeterDifference) -> dict[str, Any]:
    period = each.period.isoformat() if each.period else None
    return {
        "meter": each.meter,
        "period": period,
        "what": each.what,
        "journal": each.journal,
        "stored": each.stored,
    }


def _print(found: Verification) -> None:
    out = show.console()
    out.print(sentence(found), markup=False)
    if not found.differences:
        return
    table = show.table("meter", "period", "what", "journal", "stored", right=("journal", "stored"))
    for each in found.differences:
        period = f"{each.period:%Y-%m-%d %H:%M}" if each.period else ""
        show.add(table, each.meter, period, each.what, str(each.journal), str(each.stored))
    out.print(table)
