"""`capguard entries`: the journal, newest last."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from capguard.cli import show
from capguard.cli.opening import opened
from capguard.cli.options import DEFAULT_URL, Url
from capguard.results import Entry


class Kind(StrEnum):
    """What an entry records."""

    reserve = "reserve"
    book = "book"
    settle = "settle"
    release = "release"
    expire = "expire"
    extend = "extend"


def entries(
    user: Annotated[str | None, typer.Option(help="Of this user only.")] = None,
    since: Annotated[str | None, typer.Option(help="Not before this time: ISO 8601 with its zone.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    kind: Annotated[Kind | None, typer.Option(help="Of this kind only.")] = None,
    url: Url = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines: one object per entry, nothing else.")] = False,
) -> None:
    """Show the journal: what was held, booked and dropped, for whom, newest last."""
    start = None if since is None else _instant(since)
    with opened(url, policy={}) as guard:
        wanted = (entry for entry in guard.entries(user=user, since=start) if kind in (None, entry.kind))
        newest = deque(wanted, maxlen=limit)
    if as_json:
        for entry in newest:
            show.print_json(entry.to_dict())
    else:
        _print(newest)


def _instant(text: str) -> datetime:
    allowed = "allowed: ISO 8601 with its zone, as 2026-01-31T08:00:00Z"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--since: {text!r:.60} is no time; {allowed}") from None
    if moment.tzinfo is None:
        raise ValueError(f"--since: {text!r:.60} names no zone; {allowed}")
    return moment


def _print(found: Iterable[Entry]) -> None:
    table = show.table("entry", "at (UTC)", "kind", "user", "model", "amount", "flags", "id", right=("entry", "amount"))
    for each in found:
        at = f"{each.at:%Y-%m-%d %H:%M:%S}"
        flags = ", ".join(each.flags)
        show.add(table, str(each.seq), at, each.kind, each.user or "", each.model or "", _amount(each), flags, each.id)
    show.console().print(table if table.row_count else "no entries")


def _amount(entry: Entry) -> str:
    """Dollars; for a call that was counted in another unit, that unit."""
    other = [unit for unit in entry.amounts if unit not in ("usd", "billed", "requests")]
    if "usd" in entry.amounts or not other:
        return show.amount("usd", entry.cost)
    return f"{show.amount(other[0], entry.amounts[other[0]])} {other[0]}"
