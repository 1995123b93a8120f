"""`capguard caps`: which caps hold, and where each comes from."""

from __future__ import annotations

from typing import Annotated

import typer

from capguard.cli import show
from capguard.cli.opening import opened
from capguard.cli.options import DEFAULT_NAMESPACE, DEFAULT_URL, Json, Namespace, PolicyFile, Url
from capguard.policy.holding import Holding


def caps(
    plan: Annotated[str | None, typer.Option(help="For calls on this plan.")] = None,
    user: Annotated[str | None, typer.Option(help="For this user, with its overrides.")] = None,
    policy: PolicyFile = None,
    url: Url = DEFAULT_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    as_json: Json = False,
) -> None:
    """Show the caps that hold, in policy order, and where each comes from: plan, user, global or override."""
    with opened(url, policy, namespace) as guard:
        if plan is not None and plan not in guard.policy.plans:
            raise ValueError(f"--plan: {plan!r:.60} is not in the policy; allowed: {', '.join(guard.policy.plans)}")
        found = guard.caps(user=user, plan=plan)
    if as_json:
        show.print_json([each.to_dict() for each in found])
    else:
        _print(found)


def _print(found: tuple[Holding, ...]) -> None:
    table = show.table("cap", "from", "limit", "unit", "per", "window", "action", "match", "until", right=("limit",))
    for each in found:
        per, match = ", ".join(each.per) or "everybody", "; ".join(f"{name}: {', '.join(p)}" for name, p in each.match)
        limit, until = show.amount(each.unit, each.limit), f"{each.until:%Y-%m-%d %H:%M} UTC" if each.until else ""
        show.add(table, each.id, each.origin, limit, each.unit, per, each.window, each.action, match, until)
    show.console().print(table if found else "no cap holds")
