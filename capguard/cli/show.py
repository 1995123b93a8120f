"""How things look: amounts, bars, tables, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from capguard.ledger.units import MONEY

WIDE = 160
"""Columns where nobody looks: in a pipe or a log, nothing should be cut."""

_BAR = 16


def console() -> Console:
    """Stdout as it is now; wide where it is no terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


def print_json(value: Any) -> None:
    """One value, on one line."""
    sys.stdout.write(f"{json.dumps(value, ensure_ascii=False)}\n")


def amount(unit: str, value: Decimal) -> str:
    """Money with its sign and four decimals, cents where they are all there is; anything else as it is."""
    if unit not in MONEY:
        return f"{value:,f}"
    exact = value == value.quantize(Decimal("0.01"))
    return f"${value:,.2f}" if exact else f"${value:,.4f}"


def plain(value: Decimal) -> str:
    """A number for JSON: its shortest text, without an exponent."""
    return f"{value.normalize():f}"


def bar(fraction: float) -> Text:
    """How much is used, as a bar and in percent."""
    filled = round(min(fraction, 1.0) * _BAR)
    style = "red" if fraction >= 0.95 else "yellow" if fraction >= 0.8 else "green"
    return Text.assemble(("█" * filled, style), ("░" * (_BAR - filled), "dim"), f" {fraction:4.0%}")


def table(*columns: str, right: Iterable[str] = (), title: str | None = None) -> Table:
    """An empty table; the columns in `right` are aligned to the right."""
    made = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold", header_style="dim")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    return made


def add(to: Table, *cells: str | Text) -> None:
    """A row of plain text: what stands in a ledger is never read as markup."""
    to.add_row(*[cell if isinstance(cell, Text) else Text(cell) for cell in cells])
