"""`capguard policy`: a policy before it is used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from capguard.cli import exits, show
from capguard.cli.options import Json
from capguard.errors import Finding, PolicyError
from capguard.policy.advice import advice
from capguard.policy.document import Policy
from capguard.policy.load import load_policy

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
        policy = load_policy(file)
    except PolicyError as error:
        _print_refused(error.findings, as_json)
        raise typer.Exit(exits.NO) from None
    _print_accepted(policy, as_json)


def _print_refused(findings: Iterable[Finding], as_json: bool) -> None:
    if as_json:
        show.print_json({"ok": False, "findings": _listed(findings)})
    else:
        _print_findings("refused", findings, "found", "allowed")


def _print_accepted(policy: Policy, as_json: bool) -> None:
    counts = {
        "plans": len(policy.plans),
        "caps": len(policy.caps) + sum(len(plan.caps) for plan in policy.plans.values()),
        "users": len(policy.users),
    }
    warnings = advice(policy)
    if as_json:
        show.print_json({"ok": True, **counts, "advice": _listed(warnings)})
        return
    show.console().print(f"ok: {', '.join(f'{number} {name}' for name, number in counts.items())}")
    if warnings:
        _print_findings("advice", warnings, "what may surprise", "what helps")


def _print_findings(title: str, findings: Iterable[Finding], found: str, allowed: str) -> None:
    out = show.console()
    out.print(f"{title}:")
    for finding in findings:
        for line in (finding.place, f"  {found}: {finding.found}", f"  {allowed}: {finding.allowed}"):
            out.print(Text(f"  {line}"), soft_wrap=True)


def _listed(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    return [{"place": each.place, "found": each.found, "allowed": each.allowed} for each in findings]
