"""One run of the demo, from the first process to the last number."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from capguard.cli.demo.crew import Crew, crew
from capguard.cli.demo.report import Report, report
from capguard.cli.demo.screen import Screen, legend, screen
from capguard.cli.demo.tally import Tally
from capguard.cli.demo.traffic import asks, policy_file
from capguard.guard import Guard

_LOOK_EVERY = 0.4
_PATIENCE = 1.5  # of the demo's seconds, and at least 45: a slow machine is given time, not for ever
_AT_LEAST = 45.0
_TURN = "timeout=30"  # a slow disk shall slow the demo down, not end it


def replay(file: Path, *, seconds: int, users: int, workers: int, seed: int, out: Console | None) -> Report:
    """Replay the trace into a ledger at `file`, pressed into `seconds`, and say how it ended."""
    begin = time.monotonic()
    todo = asks(seconds, users, seed)
    url = f"sqlite:///{file}?{_TURN}"
    with (
        screen(out, legend(len(todo), users, workers)) as show,
        Guard(url, policy=policy_file()) as guard,
        crew(url, todo, workers) as made,
    ):
        tally = Tally(guard, todo, made.outcomes)
        made.start()
        start = time.monotonic()
        _follow(made, tally, show, begin + max(_AT_LEAST, _PATIENCE * seconds))
        made.stop()
        lasted = time.monotonic() - start
        made.check()
        tally.catch_up()
        show(tally)
        return report(guard, todo, tally, made.provider_calls(), lasted)


def _follow(made: Crew, tally: Tally, show: Screen, until: float) -> None:
    """Look at the journal until the workers are done, one gives up, or time is up."""
    while made.working() and time.monotonic() < until:
        time.sleep(_LOOK_EVERY)
        made.check()
        tally.catch_up()
        show(tally)
