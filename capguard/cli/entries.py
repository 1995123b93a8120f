"""`capguard entries`: the journal, newest last."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import typer

from capguard.cli import show
from capguard.cli.opening import opened
from capguard.cli.options import DEFAULT_NAMESPACE, DEFAULT_URL, Namespace, Since, Url, moment
from capguard.journal import Entry


class Kind(StrEnum):
    """What an entry records."""

    reserve = "reserve"
    book = "book"
    settle = "settle"
    release = "release"
    expire = "expire"
    extend = "extend"
    grant = "grant"
    revoke = "revoke"
    override = "override"
    clear_override = "clear_override"
    assign = "assign"
    profile = "profile"
    publish = "publish"


def entries(
    user: Annotated[str | None, typer.Option(help="Of this user only.")] = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    kind: Annotated[Kind | None, typer.Option(help="Of this kind only.")] = None,
    url: Url = DEFAULT_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines: one object per entry, nothing else.")] = False,
) -> None:
    """Show the journal: what was held, booked and dropped, for whom, newest last."""
    with opened(url, {}, namespace) as guard:
        found = guard.entries(user=user, since=moment("--since", since))
        newest = deque((entry for entry in found if kind in (None, entry.kind)), maxlen=limit)
    if as_json:
        for entry in newest:
            show.print_json(entry.to_dict())
    else:
        _print(newest)


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
