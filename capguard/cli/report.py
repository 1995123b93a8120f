"""`capguard report`: who spent what, what each plan earns, what caps refused, what watching ones would have."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from capguard.cli import show
from capguard.cli.opening import opened
from capguard.cli.options import DEFAULT_NAMESPACE, DEFAULT_URL, Json, Namespace, PolicyFile, Since, Until, Url, moment
from capguard.policy.fields import IDENTITY, TAG
from capguard.report import Report, ReportRow

_NUMBERS = ("calls", "input", "output", "cost", "billed", "held")
_EARNED = ("customers", "price", "revenue", "margin", "under water")


def report(
    by: Annotated[str, typer.Option(help=f"{', '.join(IDENTITY)}, model or {TAG}NAME.")] = "plan",
    since: Since = None,
    until: Until = None,
    policy: PolicyFile = None,
    url: Url = DEFAULT_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    as_json: Json = False,
) -> None:
    """Show what was spent this month, or within a time; by plan, also what each plan earned and who is under water."""
    with opened(url, policy, namespace) as guard:
        found = guard.report(by, since=moment("--since", since), until=moment("--until", until))
    if as_json:
        show.print_json(found.to_dict())
    else:
        _print(found)


def _print(found: Report) -> None:
    out = show.console()
    out.print(Text(f"calls reserved from {found.since:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} UTC"))
    out.print(_groups(found) if found.rows else "no calls")
    for row in found.rows:
        if row.economics is not None and row.economics.worst:
            out.print(Text(f"\nplan {row.key}: {row.economics.under_water:,} users under water, the deepest first"))
            out.print(_under_water(row))
    if found.denials:
        out.print("\nwhat caps refused")
        out.print(_denials(found))
    if found.shadow:
        out.print("\nwhat the caps that only watch would have blocked")
        out.print(_shadow(found))


def _groups(found: Report) -> Table:
    earned = _EARNED if found.by == "plan" else ()
    table = show.table(found.by, *_NUMBERS, *earned, right=(*_NUMBERS, *earned))
    for row in found.rows:
        show.add(table, row.key or "(none)", *_numbers(row), *(_earned(row) if earned else ()))
    if len(found.rows) > 1:
        show.add(table, "total", *_numbers(found.total), *([""] * len(earned)))
    return table


def _numbers(row: ReportRow) -> list[str]:
    counts = [f"{number:,}" for number in (row.calls, row.input_tokens, row.output_tokens)]
    return [*counts, *(show.amount("usd", amount) for amount in (row.cost, row.billed, row.held))]


def _earned(row: ReportRow) -> list[str]:
    assert row.economics is not None
    plan = row.economics
    money = [_dollars(amount) for amount in (plan.price, plan.revenue, plan.margin)]
    return [f"{plan.customers:,}", *money, f"{plan.under_water:,}" if plan.price is not None else ""]


def _dollars(amount: Decimal | None) -> str:
    if amount is None:
        return ""
    return f"-{show.amount('usd', -amount)}" if amount < 0 else show.amount("usd", amount)


def _under_water(row: ReportRow) -> Table:
    assert row.economics is not None
    table = show.table("user", "cost", "loss", right=("cost", "loss"))
    for user in row.economics.worst:
        show.add(table, user.user, show.amount("usd", user.cost), show.amount("usd", user.loss))
    return table


def _denials(found: Report) -> Table:
    table = show.table("cap", found.by, "times", right=("times",))
    for row in found.denials:
        show.add(table, row.cap, row.key or "", f"{row.times:,}")
    return table


def _shadow(found: Report) -> Table:
    table = show.table("cap", "action", "calls", "cost", "users", right=("calls", "cost", "users"))
    for row in found.shadow:
        show.add(table, row.cap, row.action, f"{row.calls:,}", show.amount("usd", row.cost), f"{row.users:,}")
    return table
