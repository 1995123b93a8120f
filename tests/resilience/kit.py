"""Words that these tests share: what is booked, what waits, one process after another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from decimal import Decimal
from pathlib import Path
from typing import Any

from capguard import Guard
from capguard.resilience.sheltered import Sheltered

CAP = {"id": "c", "limit": 100}


def policy(*caps: dict[str, Any], **failure: Any) -> dict[str, Any]:
    return {"caps": list(caps) or [CAP], "failure": failure}


def meter(guard: Guard, cap: str = "c", user: str = "u1") -> tuple[Decimal, Decimal, Decimal]:
    """Settled, held, overrun."""
    state = guard.status(user=user).caps[cap]
    return state.settled, state.held, state.overrun


def waiting(guard: Guard) -> int:
    """Letters that this process has not delivered."""
    assert isinstance(guard._backend, Sheltered)
    return len(guard._backend.outbox)


def booked(guard: Guard) -> dict[str, Decimal]:
    """What every call is booked at, by the last entry that ended it."""
    ends = [entry for entry in guard.entries() if entry.kind in ("settle", "book", "expire", "release")]
    return {entry.id: entry.cost for entry in ends}


def causes(guard: Guard) -> dict[str, str | None]:
    """Why a call is booked otherwise than usual, by its id."""
    return {entry.id: entry.body["facts"].get("cause") for entry in guard.entries() if entry.kind == "settle"}


class Program:
    """A process of its own that runs some lines, with what is given them as `args`."""

    def __init__(self, lines: str, *args: object, **environment: str):
        text = "import sys\nargs = sys.argv[1:]\n" + textwrap.dedent(lines)
        self.process = subprocess.Popen(
            [sys.executable, "-c", text, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            cwd=Path(__file__).parents[2],
        )

    def says(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr and self.process.stderr.read()
        return line.strip()

    def goes_on(self) -> None:
        """Let it read a line."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(how)
        self.ends()

    def ends(self) -> int:
        self.process.wait(timeout=60)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return self.process.returncode

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
