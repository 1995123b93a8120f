"""`capguard demo`: replay real traffic against caps and watch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from capguard.cli import exits, show
from capguard.cli.opening import refuse_disabled
from capguard.cli.options import Json
from capguard.errors import missing_extra

_NEEDED = ("openai", "starlette", "uvicorn")


def demo(
    seconds: Annotated[int, typer.Option(min=3, max=600, help="Seconds of traffic, 100 requests each.")] = 30,
    users: Annotated[int, typer.Option(min=10, max=5000, help="How many users make the requests.")] = 300,
    workers: Annotated[int, typer.Option(min=1, max=32, help="How many processes call the model.")] = 4,
    seed: Annotated[int, typer.Option(help="Draws the user of each request and the plan of each user.")] = 7,
    keep: Annotated[Path | None, typer.Option(help="Keep the ledger as this SQLite file.")] = None,
    as_json: Json = False,
) -> None:
    """Replay real traffic against caps, through OpenAI's SDK, on this machine. Exits with 1 if numbers disagree."""
    if any(find_spec(name) is None for name in _NEEDED):
        missing_extra("the demo", "demo")
    from capguard.cli.demo.ending import show_ending
    from capguard.cli.demo.replay import replay

    out = None if as_json else show.console()
    with _ledger(keep) as file:
        report = replay(file, seconds=seconds, users=users, workers=workers, seed=seed, out=out)
    if out is None:
        show.print_json(report.to_dict())
    else:
        show_ending(out, report, keep)
    if not report:
        raise typer.Exit(exits.NO)


@contextmanager
def _ledger(keep: Path | None) -> Iterator[Path]:
    """Where the ledger is written: a temporary directory, or a file that is not there yet."""
    refuse_disabled()
    if keep is None:
        with TemporaryDirectory(prefix="capguard-demo-") as folder:
            yield Path(folder) / "demo.db"
        return
    file = keep.absolute()
    if file.exists() or not file.parent.is_dir():
        raise ValueError(f"--keep: {file} is there already, or its folder is not; allowed: a new file")
    yield file
