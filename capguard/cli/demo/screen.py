"""What is seen while the demo runs: a live table in a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from capguard.cli import show
from capguard.cli.demo.tally import Row, Tally

Screen = Callable[[Tally], None]

_LINE_EVERY = 3.0
_NUMBERS = ("users", "calls", "spent", "held", "blocked", "downgraded", "warned")


def legend(requests: int, users: int, workers: int) -> str:
    """Two lines that say what is going on."""
    return (
        f"{requests:,} real requests of {users} users go through OpenAI's SDK to a local provider; "
        f"{workers} processes, one SQLite ledger.\n"
        "Each call is held against its user's caps before it is made: heavy users are warned, downgraded, blocked."
    )


@contextmanager
def screen(out: Console | None, legend: str) -> Iterator[Screen]:
    """Where the tally is shown; `out` None shows nothing."""
    if out is None:
        yield lambda _tally: None
        return
    if not out.is_terminal:
        out.print(Text(legend))
        yield _Lines(out).show
        return
    with Live(Text(f"{legend}\n\nstarting ..."), console=out, refresh_per_second=4) as live:
        yield lambda tally: live.update(Group(Text(legend), Text(), table(tally)))


class _Lines:
    def __init__(self, out: Console):
        self._out = out
        self._start = time.monotonic()
        self._next = self._start + _LINE_EVERY

    def show(self, tally: Tally) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _LINE_EVERY
        counts = ", ".join(f"{tally.total(name):,} {name}" for name in ("blocked", "downgraded", "warned"))
        spent = f"{show.amount('usd', tally.total('spent'))} spent, {show.amount('usd', tally.total('held'))} held"
        self._out.print(Text(f"{now - self._start:3.0f} s  {tally.total('calls'):,} calls, {spent}, {counts}"))


def table(tally: Tally) -> Table:
    """One row per plan."""
    made = show.table("plan", *_NUMBERS, right=_NUMBERS)
    for row in tally.rows.values():
        show.add(made, row.plan, *_cells(row))
    return made


def _cells(row: Row) -> Iterator[str | Text]:
    yield f"{len(row.users):,}"
    yield f"{row.calls:,}"
    yield f"${row.spent:,.4f}"
    yield f"${row.held:,.4f}"
    yield Text(f"{row.blocked:,}", style="red" if row.blocked else "")
    yield Text(f"{row.downgraded:,}", style="cyan" if row.downgraded else "")
    yield Text(f"{row.warned:,}", style="yellow" if row.warned else "")
