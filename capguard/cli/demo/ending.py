"""The last page of the demo."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from capguard.cli import show
from capguard.cli.demo.report import Report
from capguard.cli.demo.screen import table
from capguard.cli.demo.traffic import ATTRIBUTION, policy_file
from capguard.cli.verify import sentence


def show_ending(out: Console, report: Report, kept: Path | None) -> None:
    """Who is near a limit, what was saved, what agrees."""
    if not out.is_terminal:
        out.print(table(report.tally))
    out.print()
    out.print(_nearest(report))
    out.print()
    for line in (*_money(report), "", *_counts(report)):
        out.print(Text(line))
    for promise, holds in report.checks.items():
        out.print(Text.assemble(("  ok   ", "green") if holds else ("  FAIL ", "bold red"), promise))
    out.print()
    out.print(Text(ATTRIBUTION, style="dim"))
    if kept is not None and report.nearest:
        out.print(Text(_look_around(report, kept), style="dim"))


def _nearest(report: Report) -> Table:
    made = show.table("user", "plan", "cap", "used", "settled", "limit", title="nearest to their caps")
    for one in report.nearest:
        settled, limit = (show.amount(one.cap.unit, each) for each in (one.cap.settled, one.cap.limit))
        show.add(made, one.user, one.plan, one.cap.id, show.bar(one.cap.fraction), settled, limit)
    return made


def _money(report: Report) -> tuple[str, ...]:
    spent, blocking, downgrading = (
        f"${amount:,.2f}"
        for amount in (report.tally.total("spent"), report.saved_by_blocking, report.saved_by_downgrading)
    )
    saved = report.saved_by_blocking + report.saved_by_downgrading
    share = saved / report.without_caps if report.without_caps else 0
    return (
        f"The same traffic without caps costs ${report.without_caps:,.2f}; with them it cost {spent}.",
        f"The caps saved ${saved:,.2f} ({share:.0%}): {blocking} by blocking, {downgrading} by a cheaper model.",
    )


def _counts(report: Report) -> tuple[str, ...]:
    allowed, blocked = len(report.tally.allowed), len(report.tally.blocked)
    ended = "" if report.replayed == report.requests else " (time was up)"
    replayed = f"Replayed {report.replayed:,} of {report.requests:,} requests in {report.seconds:.0f} s{ended}"
    reached = f"{report.provider_calls:,} calls reached the provider"
    return (
        f"{replayed}: {allowed:,} allowed, {blocked:,} blocked; {reached}.",
        f"verify: {sentence(report.verification)}.",
    )


def _look_around(report: Report, kept: Path) -> str:
    """The command that shows one of the users in the ledger that was kept."""
    url, first = f"sqlite:///{kept.absolute()}", report.nearest[0]
    return f"Kept: capguard status {first.user} --plan {first.plan} --url {url} --policy {policy_file()}"
