"""`capguard override`, `grant`, `revoke`, `assign`: what holds for one user, from its next call on."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from capguard.cli import show
from capguard.cli.opening import opened
from capguard.cli.options import (
    DEFAULT_NAMESPACE,
    DEFAULT_URL,
    By,
    Json,
    Namespace,
    PolicyFile,
    Url,
    Why,
    moment,
    whoever,
)

User = Annotated[str, typer.Argument(help="The user, as the application names it.")]
Ends = Annotated[str | None, typer.Option("--until", help="Ends by itself then: ISO 8601 with its zone.")]


def override(
    user: User,
    cap: Annotated[str, typer.Argument(help="The id of a cap of the policy.")],
    limit: Annotated[str | None, typer.Option(help="The new limit, in the cap's unit.")] = None,
    action: Annotated[str | None, typer.Option(help="The new action: block, downgrade, clamp, ...")] = None,
    until: Ends = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take the override back.")] = False,
    by: By = None,
    why: Why = None,
    policy: PolicyFile = None,
    url: Url = DEFAULT_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    as_json: Json = False,
) -> None:
    """Change a cap for one user, for a time or for good, or take the change back."""
    wanted = {name: value for name, value in (("limit", limit), ("action", action)) if value is not None}
    if clear == bool(wanted) or (clear and until is not None):
        raise ValueError("override: allowed: --limit, --action or both, with --until if it ends, or --clear alone")
    signed: dict[str, Any] = {"by": whoever(by), "why": why}
    with opened(url, {} if clear else policy, namespace) as guard:
        if clear:
            revision = guard.clear_override(user=user, cap=cap, **signed)
            told = f"{user}: cap {cap} is as the policy has it"
        else:
            revision = guard.override(user=user, cap=cap, until=moment("--until", until), **wanted, **signed)
            holds = cap in {each.id for each in guard.caps(user=user)}
            told = f"{user}: cap {cap} is changed" + ("" if holds else ", for plans that have it; the user's has not")
    _tell(told, {"user": user, "cap": cap, "revision": revision}, as_json)


def grant(
    user: User,
    amount: Annotated[str, typer.Argument(help="How much, in the unit of the user's plan: dollars, mostly.")],
    until: Ends = None,
    id: Annotated[str | None, typer.Option("--id", help="Its name; made once per name. Default: a new one.")] = None,
    priority: Annotated[int, typer.Option(help="Lower pays first.")] = 0,
    feature: Annotated[list[str] | None, typer.Option(help="Good for these features only (globs).")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Good for these models only (globs).")] = None,
    by: By = None,
    why: Why = None,
    policy: PolicyFile = None,
    url: Url = DEFAULT_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    as_json: Json = False,
) -> None:
    """Give a user credit, which pays after what is included; says which caps it loosens."""
    with opened(url, policy, namespace) as guard:
        receipt = guard.grant(
            user=user,
            amount=amount,
            until=moment("--until", until),
            id=id,
            priority=priority,
            features=feature or (),
            models=model or (),
            by=whoever(by),
            why=why,
        )
    loosens = ", ".join(receipt.loosens) or "no cap: none of the user's has ignore_grants"
    told = f"{user}: grant {receipt.id}; it loosens {loosens}"
    facts = {"user": user, "id": receipt.id, "revision": receipt.revision, "loosens": list(receipt.loosens)}
    _tell(told, facts, as_json)


def revoke(
    user: User,
    id: Annotated[str, typer.Argument(help="The grant's id.")],
    by: By = None,
    why: Why = None,
    url: Url = DEFAULT_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    as_json: Json = False,
) -> None:
    """End a grant: it pays nothing more than what calls in flight hold of it."""
    with opened(url, {}, namespace) as guard:
        revision = guard.revoke(user=user, id=id, by=whoever(by), why=why)
    _tell(f"{user}: grant {id} pays no more", {"user": user, "id": id, "revision": revision}, as_json)


def assign(
    user: User,
    plan: Annotated[str | None, typer.Argument(help="The plan, as the policy names it.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="No plan of its own: the policy's default holds.")] = False,
    by: By = None,
    why: Why = None,
    policy: PolicyFile = None,
    url: Url = DEFAULT_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    as_json: Json = False,
) -> None:
    """Put a user on a plan, for calls that do not name one themselves."""
    if clear == (plan is not None):
        raise ValueError("assign: allowed: a plan of the policy, or --clear")
    with opened(url, policy, namespace) as guard:
        revision = guard.assign(user=user, plan=plan, by=whoever(by), why=why)
    told = f"{user}: plan {plan}" if plan is not None else f"{user}: no plan of its own"
    _tell(told, {"user": user, "plan": plan, "revision": revision}, as_json)


def _tell(told: str, facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.print_json(facts)
    else:
        show.console().print(Text(f"{told} (revision {facts['revision']})"), soft_wrap=True)
