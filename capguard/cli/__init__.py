"""The command line: `capguard status`, `caps`, `log`, `report`, `grant`, `policy push`, ... Parse, call, print."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from capguard.errors import MissingExtra, missing_extra

if TYPE_CHECKING:
    import typer

_OF_THE_EXTRA = ("typer", "rich", "click")
_BAD_INPUT = 2


def main() -> None:
    """Run the command line. Exits with 2 and one line where the extra `cli` is not installed."""
    try:
        app = _app()
    except MissingExtra as error:
        sys.stderr.write(f"capguard: {error}\n")
        raise SystemExit(_BAD_INPUT) from None
    app()


def _app() -> typer.Typer:
    try:
        from capguard.cli.app import app
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in _OF_THE_EXTRA:
            raise
        missing_extra("the command line", "cli", missing)
    return app
