"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_URL = "sqlite:///capguard.db"

Url = Annotated[str, typer.Option("--url", envvar="CAPGUARD_URL", help="The ledger, as Guard takes it.")]
PolicyFile = Annotated[
    Path, typer.Option("--policy", envvar="CAPGUARD_POLICY", help="The policy's file: .toml, .yaml or .json.")
]
Json = Annotated[bool, typer.Option("--json", help="Plain JSON on stdout, nothing else.")]
