"""`capguard policy`: a policy before it is used, and the one that is published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from capguard.acceptance import accepted
from capguard.cli import exits, show
from capguard.cli.findings import listed, print_findings, print_refused
from capguard.cli.options import Json
from capguard.cli.revisions import diff, history, push, show_policy
from capguard.errors import PolicyError
from capguard.policy.advice import advice
from capguard.policy.document import Policy

policies = typer.Typer(help="Work on a policy.", no_args_is_help=True)


@policies.callback()
def group() -> None:
    """Work on a policy."""


@policies.command()
def check(
    file: Annotated[Path, typer.Argument(help="The policy's file: .toml, .yaml or .json.")], as_json: Json = False
) -> None:
    """Say whether a policy is accepted, with advice, or everything that is wrong with it. Exits with 1 if refused."""
    if not file.is_file():
        raise ValueError(f"{file.absolute()}: no such file; allowed: a policy's file that exists")
    try:
        policy = accepted(file)
    except PolicyError as error:
        print_refused(error.findings, as_json)
        raise typer.Exit(exits.NO) from None
    _print_accepted(policy, as_json)


for _name, _command in (("push", push), ("show", show_policy), ("diff", diff), ("history", history)):
    policies.command(_name)(_command)


def _print_accepted(policy: Policy, as_json: bool) -> None:
    counts = {
        "plans": len(policy.plans),
        "caps": len(policy.caps) + sum(len(plan.caps) for plan in policy.plans.values()),
        "users": len(policy.users),
    }
    warnings = advice(policy)
    if as_json:
        show.print_json({"ok": True, **counts, "advice": listed(warnings)})
        return
    show.console().print(f"ok: {', '.join(f'{number} {name}' for name, number in counts.items())}")
    if warnings:
        print_findings("advice", warnings, "what may surprise", "what helps")
