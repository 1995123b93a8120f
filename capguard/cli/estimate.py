"""`capguard estimate`, `warm` and `downgrades`: what a call will cost before it is made, and what helps with that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from capguard.cli import exits, show
from capguard.cli.options import Json, PolicyFile
from capguard.cli.prices import PriceList, book_of, policy_of
from capguard.ledger.money import dollars
from capguard.pricing.downgrades import Edge, edges
from capguard.pricing.estimate import estimated, output_of
from capguard.pricing.prompt import Prompt
from capguard.pricing.tokens import warm_up
from capguard.tariffs import Tariffs

_FIELDS = ("messages", "prompt", "input", "system", "tools")


def estimate(
    file: Annotated[Path, typer.Argument(help="A prompt: a text, or JSON with messages, prompt or input.")],
    model: Annotated[str, typer.Option("--model", help="The model, as the application names it.")],
    max_tokens: Annotated[int | None, typer.Option(min=0, help="The output limit of the call.")] = None,
    n: Annotated[int, typer.Option(min=1, help="How many replies are asked for.")] = 1,
    policy: PolicyFile = None,
    source: PriceList = None,
    as_json: Json = False,
) -> None:
    """Show what a call would be held at, and what it is expected to cost."""
    chosen = policy_of(policy)
    tariff = Tariffs(chosen, book_of(source)).of(model, None)
    assert tariff.price is not None
    prompt = prompt_of(file)
    output = output_of(tariff.price, max_tokens, chosen.estimate.output)
    found = {
        how: estimated(tariff.price, model, prompt, output, n=n, bound=how == "bound") for how in ("bound", "count")
    }
    told: dict[str, Any] = {"model": model, "price": tariff.price.model, "flags": list(tariff.flags)}
    for how, each in found.items():
        told[how] = {
            "how": each.how,
            "input_tokens": each.held.input_tokens,
            "output_tokens": each.held.output_tokens,
            "held": show.plain(dollars(tariff.amounts(each.held)["usd"])),
            "expected_input_tokens": each.expected.input_tokens,
            "expected": show.plain(dollars(tariff.amounts(each.expected)["usd"])),
        }
    if as_json:
        show.print_json(told)
    else:
        _print(told)


def warm(as_json: Json = False) -> None:
    """Load every vocabulary, to see whether it is there. Exits with 1 where one is not."""
    found = warm_up()
    if as_json:
        show.print_json(found)
    else:
        for name, there in found.items():
            told = "is here" if there else "is not here: put its file into the folder that TIKTOKEN_CACHE_DIR names"
            show.console().print(f"{name} {told}", markup=False)
    if not all(found.values()):
        raise typer.Exit(exits.NO)


def downgrades(source: PriceList = None, as_json: Json = False) -> None:
    """Show the cheaper siblings that capguard knows, held to its rule. Exits with 1 where one breaks it."""
    found = list(edges(book_of(source)))
    if as_json:
        show.print_json([edge.to_dict() for edge in found])
    else:
        _print_edges(found)
    if any(edge.findings and not edge.pardon for edge in found):
        raise typer.Exit(exits.NO)


def prompt_of(file: Path) -> Prompt:
    """The prompt in a file: JSON as a call would have it, or a list of messages; any other text as it is.

    Raises ValueError for a file that is not there or no text, and for JSON that is no prompt.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: {error}") from None
    if file.suffix != ".json":
        return Prompt(prompt=text)
    try:
        loaded = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if isinstance(loaded, list):
        return Prompt(messages=loaded)
    given = {name: loaded[name] for name in _FIELDS if name in loaded} if isinstance(loaded, dict) else {}
    if not given:
        raise ValueError(f"{file}: no prompt; allowed: an object with {', '.join(_FIELDS)}, or a list of messages")
    return Prompt(**given)


def _print(told: dict[str, Any]) -> None:
    out = show.console()
    flags = f" ({', '.join(told['flags'])})" if told["flags"] else ""
    out.print(f"{told['model']} at the price of {told['price']}{flags}", markup=False)
    columns = ("input_tokens", "output_tokens", "held", "expected")
    table = show.table("found by", *[name.replace("_", " ") for name in columns], right=("held", "expected"))
    for how in ("bound", "count"):
        row = told[how]
        shown = [f"{row[name]:,}" if isinstance(row[name], int) else f"${row[name]}" for name in columns]
        show.add(table, row["how"], *shown)
    out.print(table)


def _print_edges(found: list[Edge]) -> None:
    table = show.table("model", "sibling", "remark")
    for edge in found:
        show.add(table, edge.model, edge.sibling, edge.pardon or "; ".join(edge.findings))
    show.console().print(table)
