"""`capguard log`: what caps did and what was steered, newest last."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Annotated

import typer

from capguard.cli import show
from capguard.cli.opening import opened
from capguard.cli.options import DEFAULT_NAMESPACE, DEFAULT_URL, Namespace, Since, Until, Url, moment
from capguard.enforcement import LogLine


def log(
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    url: Url = DEFAULT_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines: one object per line, nothing else.")] = False,
) -> None:
    """Show the enforcement log: refusals by the minute, warnings, thresholds, uncertain bookings, what was steered."""
    with opened(url, {}, namespace) as guard:
        newest = deque(guard.log(since=moment("--since", since), until=moment("--until", until)), maxlen=limit)
    if as_json:
        for line in newest:
            show.print_json(line.to_dict())
    else:
        _print(newest)


def _print(found: Iterable[LogLine]) -> None:
    table = show.table("at (UTC)", "kind", "cap", "whom", "count", "detail", right=("count",))
    for each in found:
        whom = ", ".join(f"{name}={value or 'anonymous'}" for name, value in each.scope.items()) or each.user or ""
        at, detail = f"{each.at:%Y-%m-%d %H:%M:%S}", " ".join(each.detail.split())
        show.add(table, at, each.kind, each.cap or "", whom, str(each.count), detail)
    show.console().print(table if table.row_count else "nothing to tell")
