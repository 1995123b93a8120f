"""How a command ends: four exit codes, and one line on stderr for an error, never a traceback."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from capguard.errors import BackendUnavailable, CapguardError, PolicyError

FINE = 0
NO = 1
BAD_INPUT = 2
UNAVAILABLE = 3

EPILOG = (
    "Exit codes: 0 fine; 1 the answer is no (verify found differences, the policy is refused, status --check found a "
    "spent cap, a price is not known or not believed, the demo's numbers disagree); "
    "2 bad usage, bad input or a missing extra; 3 the backend is unavailable."
)


class Commands(TyperGroup):
    """The commands, with the errors that capguard raises on purpose turned into exit codes."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BackendUnavailable as error:
            raise fail(str(error), UNAVAILABLE) from None
        except PolicyError as error:
            raise fail(_first_finding(error)) from None
        except (CapguardError, ValueError, FileNotFoundError) as error:
            raise fail(str(error)) from None


def fail(message: str, code: int = BAD_INPUT) -> typer.Exit:
    """Say what was wrong in one line on stderr. Gives what to raise."""
    typer.echo(f"capguard: {' '.join(message.split())}", err=True)
    return typer.Exit(code)


def _first_finding(error: PolicyError) -> str:
    more = len(error.findings) - 1
    if more < 1:
        return str(error)
    return f"{error.findings[0]} (and {more} more: capguard policy check FILE shows all)"
