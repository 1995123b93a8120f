"""`capguard status`: where one user stands."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from capguard.cli import exits, show
from capguard.cli.opening import opened
from capguard.cli.options import DEFAULT_NAMESPACE, DEFAULT_URL, Json, Namespace, PolicyFile, Url
from capguard.ledger.caps import ENFORCING
from capguard.states import CapState, Status


def status(
    user: Annotated[str, typer.Argument(help="The user, as the application names it.")],
    plan: Annotated[str | None, typer.Option(help="The plan, where the application names it.")] = None,
    policy: PolicyFile = None,
    url: Url = DEFAULT_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if a cap that refuses is spent.")] = False,
    as_json: Json = False,
) -> None:
    """Show the caps of a user and what is left of each."""
    with opened(url, policy, namespace) as guard:
        found = guard.status(user=user, plan=plan)
    if as_json:
        show.print_json(found.to_dict())
    else:
        _print(user, found)
    if check and any(_is_spent(cap) for cap in found.caps):
        raise typer.Exit(exits.NO)


def _print(user: str, found: Status) -> None:
    out = show.console()
    out.print(Text(f"{user}, plan {found.plan or '(none)'}, {found.as_of:%Y-%m-%d %H:%M:%S} UTC"))
    out.print(_table(found) if found.caps else "no cap applies")


def _table(found: Status) -> Table:
    amounts = ("settled", "held", "limit", "remaining")
    table = show.table("cap", "action", "used", *amounts, "unit", "resets", right=amounts)
    for cap in found.caps:
        shown = [show.amount(cap.unit, getattr(cap, name)) for name in amounts]
        resets = f"{cap.resets_at:%Y-%m-%d %H:%M} UTC" if cap.resets_at else "never"
        show.add(table, cap.id, cap.action, show.bar(cap.fraction), *shown, cap.unit, resets)
    return table


def _is_spent(cap: CapState) -> bool:
    return cap.action in ENFORCING and not cap.remaining
