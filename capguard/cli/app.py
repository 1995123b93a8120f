"""The commands put together."""

from __future__ import annotations

from typing import Annotated

import typer

from capguard._version import __version__
from capguard.cli.archive import archive
from capguard.cli.caps import caps
from capguard.cli.demo.command import demo
from capguard.cli.doctor import doctor
from capguard.cli.entries import entries
from capguard.cli.estimate import downgrades, estimate, warm
from capguard.cli.exits import EPILOG, Commands
from capguard.cli.log import log
from capguard.cli.policy import policies
from capguard.cli.prices import prices
from capguard.cli.recover import recover
from capguard.cli.report import report
from capguard.cli.status import status
from capguard.cli.steer import assign, grant, override, revoke
from capguard.cli.verify import verify

app = typer.Typer(
    name="capguard",
    cls=Commands,
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def capguard(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Hard spending caps for applications that call language models."""


LOOKING = (status, caps, entries, log, report, verify, archive, recover, doctor)
STEERING = (override, grant, revoke, assign)
PRICING = (estimate, downgrades, warm)

for command in (*LOOKING, *STEERING, *PRICING, demo):
    app.command()(command)
app.add_typer(policies, name="policy")
app.add_typer(prices, name="prices")
