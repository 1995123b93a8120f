"""How findings look: what is wrong with a policy, or what it is advised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.text import Text

from capguard.cli import show
from capguard.errors import Finding


def print_refused(findings: Iterable[Finding], as_json: bool) -> None:
    """Everything that is wrong with a policy."""
    if as_json:
        show.print_json({"ok": False, "findings": listed(findings)})
    else:
        print_findings("refused", findings, "found", "allowed")


def print_findings(title: str, findings: Iterable[Finding], found: str, allowed: str) -> None:
    out = show.console()
    out.print(f"{title}:")
    for finding in findings:
        for line in (finding.place, f"  {found}: {finding.found}", f"  {allowed}: {finding.allowed}"):
            out.print(Text(f"  {line}"), soft_wrap=True)


def listed(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings for JSON."""
    return [{"place": each.place, "found": each.found, "allowed": each.allowed} for each in findings]
