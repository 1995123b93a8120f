"""`capguard policy push`, `show`, `diff`, `history`: the policy that is published in a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from capguard import answers
from capguard.acceptance import accepted
from capguard.backends.base import run as drive
from capguard.backends.base import system_clock
from capguard.cli import exits, show
from capguard.cli.findings import print_refused
from capguard.cli.opening import opened, refuse_unseen
from capguard.cli.options import DEFAULT_NAMESPACE, DEFAULT_URL, By, Json, Namespace, Url, Why, whoever
from capguard.cli.tomltext import toml_text
from capguard.errors import PolicyError
from capguard.guard import Guard
from capguard.ledger.outcomes import Published, Superseded
from capguard.plugins.manager import open_backend
from capguard.policy.diff import diff as differences
from capguard.policy.document import Policy
from capguard.policy.load import dump_policy, policy_hash
from capguard.publishing import publication, publishing
from capguard.review import PolicyRevision

_EMPTY = Policy()


def push(
    file: Annotated[Path, typer.Argument(help="The policy's file: .toml, .yaml or .json.")],
    base: Annotated[int | None, typer.Option(min=0, help="Only if this revision is still in force; 0: none.")] = None,
    backfill: Annotated[
        bool, typer.Option("--backfill", help="New caps begin with what was booked in their current period.")
    ] = False,
    by: By = None,
    why: Why = None,
    url: Url = DEFAULT_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    as_json: Json = False,
) -> None:
    """Put a policy in force for every process without one of its own, at its next call. Exits with 1 if refused."""
    refuse_unseen(url)
    backend = open_backend(url, namespace=namespace, clock=system_clock)
    try:
        policy = accepted(_file(file), backend.shard_by)
    except PolicyError as error:
        print_refused(error.findings, as_json)
        raise typer.Exit(exits.NO) from None
    try:
        command = publication(policy, base, whoever(by), why)
        outcome = drive(publishing(command, system_clock, backfill=backfill, shard_by=backend.shard_by), backend)
    finally:
        backend.close()
    if isinstance(outcome, Superseded):
        raise exits.fail(str(answers.refused(outcome)), exits.NO)
    if not isinstance(outcome, Published):
        raise answers.refused(outcome)
    if as_json:
        show.print_json({"revision": outcome.policy.revision, "hash": policy_hash(policy)})
    else:
        show.console().print(f"revision {outcome.policy.revision} is in force")


def show_policy(
    revision: Annotated[int | None, typer.Option(min=1, help="This one; without it, the one in force.")] = None,
    url: Url = DEFAULT_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    as_json: Json = False,
) -> None:
    """Show a published policy as TOML, which can be edited and pushed."""
    with opened(url, {}, namespace) as guard:
        revisions = guard.history()
        if not revisions:
            raise ValueError("no policy is published in this ledger; allowed: `capguard policy push FILE` before")
        policy = guard.policy_at(revisions[-1].revision if revision is None else revision)
        told = revisions[-1 if revision is None else revision - 1]
    if as_json:
        show.print_json({**told.to_dict(), "policy": dump_policy(policy)})
    else:
        typer.echo(f"# {_sentence(told)}\n{toml_text(policy)}")


def diff(
    first: Annotated[str, typer.Argument(metavar="FILE|REVISION", help="What would be pushed, or where to begin.")],
    second: Annotated[str | None, typer.Argument(metavar="[FILE|REVISION]", help="Where to end.")] = None,
    url: Url = DEFAULT_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    as_json: Json = False,
) -> None:
    """Show what a push of FILE or of an old REVISION would change; with two of them, what changes between them."""
    with opened(url, {}, namespace) as guard:
        one = _in_force(guard) if second is None else _named(guard, first)
        other = _named(guard, first if second is None else second)
    changes = differences(one, other)
    if as_json:
        show.print_json([change.to_dict() for change in changes])
        return
    out = show.console()
    for change in changes:
        out.print(Text(str(change)), soft_wrap=True)
    if not changes:
        out.print("no differences")


def history(url: Url = DEFAULT_URL, namespace: Namespace = DEFAULT_NAMESPACE, as_json: Json = False) -> None:
    """Show every policy that was published: when, by whom, why."""
    with opened(url, {}, namespace) as guard:
        revisions = guard.history()
    if as_json:
        show.print_json([each.to_dict() for each in revisions])
        return
    table = show.table("revision", "at (UTC)", "by", "hash", "why", right=("revision",))
    for each in revisions:
        show.add(table, str(each.revision), f"{each.at:%Y-%m-%d %H:%M:%S}", each.by or "", each.hash, each.why or "")
    show.console().print(table if revisions else "no policy was published")


def _sentence(told: PolicyRevision) -> str:
    by = f" by {told.by}" if told.by else ""
    why = f": {' '.join(told.why.split())}" if told.why else ""
    return f"revision {told.revision}, {told.at:%Y-%m-%d %H:%M:%S} UTC{by}{why}"


def _in_force(guard: Guard) -> Policy:
    """The policy that is published; an empty one where none is."""
    revisions = guard.history()
    return guard.policy_at(revisions[-1].revision) if revisions else _EMPTY


def _named(guard: Guard, text: str) -> Policy:
    return guard.policy_at(int(text)) if text.isascii() and text.isdecimal() else accepted(_file(Path(text)))


def _file(file: Path) -> Path:
    if not file.is_file():
        raise ValueError(f"{file.absolute()}: no such file; allowed: a policy's file that exists")
    return file
