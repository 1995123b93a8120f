"""Options that several commands share."""

from __future__ import annotations

import getpass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_URL = "sqlite:///capguard.db"
DEFAULT_NAMESPACE = "default"

Url = Annotated[str, typer.Option("--url", envvar="CAPGUARD_URL", help="The ledger, as Guard takes it.")]
Namespace = Annotated[
    str, typer.Option("--namespace", envvar="CAPGUARD_NAMESPACE", help="Whose books in that ledger, as Guard takes it.")
]
PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        envvar="CAPGUARD_POLICY",
        help="The policy's file: .toml, .yaml or .json. Without it: the published policy.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Plain JSON on stdout, nothing else.")]
Since = Annotated[str | None, typer.Option(help="Not before this time: ISO 8601 with its zone.")]
Until = Annotated[str | None, typer.Option(help="Before this time: ISO 8601 with its zone.")]
By = Annotated[str | None, typer.Option("--by", help="Who changes this, for the journal. Default: the user at work.")]
Why = Annotated[str | None, typer.Option("--why", help="Why, for the journal.")]


def moment(option: str, text: str | None) -> datetime | None:
    """A time on the command line. Raises ValueError, naming the option, for one that is none or names no zone."""
    if text is None:
        return None
    allowed = "allowed: ISO 8601 with its zone, as 2026-01-31T08:00:00Z"
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{option}: {text!r:.60} is no time; {allowed}") from None
    if found.tzinfo is None:
        raise ValueError(f"{option}: {text!r:.60} names no zone; {allowed}")
    return found


def whoever(by: str | None) -> str | None:
    """Who steers: as it was said, else the user of the operating system, None where that has no name."""
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # no such user in the password database, as in some containers
        return None
