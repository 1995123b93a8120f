"""`capguard prices`: what a model costs, and whether a price list can be believed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from capguard.acceptance import accepted
from capguard.cli import exits, show
from capguard.cli.options import Json, PolicyFile
from capguard.errors import UnknownModel
from capguard.plugins.manager import open_prices
from capguard.policy.document import Policy
from capguard.pricing.book import PriceBook, bundled
from capguard.pricing.price import FEES, RARE, Price
from capguard.pricing.review import Doubt, reviewed
from capguard.shelf import Shelf
from capguard.tariffs import Tariffs

PRICES = typer.Option(
    "--prices", envvar="CAPGUARD_PRICES", help="The price list, as Guard takes it: bundled, litellm, a file."
)
PriceList = Annotated[str | None, PRICES]

prices = typer.Typer(help="Look at prices.", no_args_is_help=True)

_TOKENS = ("input", "output", "cache_read", "cache_write", *RARE)
_SHOWN = 20


@prices.callback()
def group() -> None:
    """Look at prices."""


@prices.command("show")
def show_price(
    model: Annotated[str, typer.Argument(help="The model, as the application names it.")],
    policy: PolicyFile = None,
    source: PriceList = None,
    as_json: Json = False,
) -> None:
    """Show what a model costs, and where that was found. Exits with 1 for a model without a known price."""
    book = book_of(source)
    tariffs = Tariffs(policy_of(policy), book)
    known = tariffs.known(model)
    if known is None:
        close = ", ".join(book.closest(model))
        raise typer.Exit(_unknown(model, close, as_json))
    found = described(known, book)
    if as_json:
        show.print_json({"asked": model, **found})
    else:
        _print(model, known, found)


@prices.command()
def check(
    source: Annotated[str, typer.Argument(help="A price list: litellm, a file, or what a plugin knows.")] = "litellm",
    as_json: Json = False,
) -> None:
    """Say what is not believed of a price list beside the bundled one. Exits with 1 if something is not."""
    try:
        listing = open_prices(source).read()
    except OSError as error:
        raise ValueError(f"{source}: {error.strerror or error}") from None
    believed, doubts = reviewed(listing.rows, listing.later, bundled(), listing.meant)
    told = {
        "source": " ".join(part for part in (listing.source, listing.source_version) if part),
        "as_of": listing.as_of.isoformat(),
        "models": len(believed),
        "left_out": dict(listing.dropped),
        "doubts": [doubt.to_dict() for doubt in doubts],
    }
    if as_json:
        show.print_json(told)
    else:
        _print_checked(told, doubts)
    if doubts:
        raise typer.Exit(exits.NO)


def book_of(source: str | None) -> PriceBook:
    """The prices that a Guard with this list would use today."""
    return Shelf(open_prices(source)).at(time.time_ns() // 1_000_000)


def policy_of(file: Path | None) -> Policy:
    """The policy of a file; none where none is named."""
    return accepted({} if file is None else file)


def described(price: Price, book: PriceBook) -> dict[str, Any]:
    """A price as people read it: dollars per million tokens, per request, per piece."""
    variants = [
        {"service": each.service or "standard", "above": each.above, **_per_million(each.rates)}
        for each in price.variants
    ]
    return {
        "model": price.model,
        "origin": price.origin,
        "provider": price.provider,
        "mode": price.mode,
        **_per_million({name: getattr(price, name) for name in _TOKENS[:4]} | dict(price.rare)),
        "request": _dollars(price.request, 12),
        "fees": {name: _dollars(price.fees[name], 12) for name in FEES if name in price.fees},
        "variants": variants,
        "max_input": price.max_input,
        "max_output": price.max_output,
        "features": sorted(price.features),
        "retires": price.retires,
        "version": price.version or None,
        "as_of": book.as_of.isoformat(),
        "source": book.source,
    }


def _per_million(rates: Mapping[str, int]) -> dict[str, str]:
    return {name: _dollars(rates[name], 6) for name in _TOKENS if name in rates}


def _dollars(pico: int, digits: int) -> str:
    return show.plain(Decimal(pico).scaleb(-digits))


def _unknown(model: str, close: str, as_json: bool) -> int:
    if as_json:
        show.print_json({"asked": model, "model": None, "close": close.split(", ") if close else []})
        return exits.NO
    hint = f"; did you mean {close}?" if close else ""
    return exits.fail(str(UnknownModel(f"model {model!r} has no known price{hint}")), exits.NO).exit_code


def _print(asked: str, price: Price, found: Mapping[str, Any]) -> None:
    out = show.console()
    where = {"policy": "the policy", "free": "the policy, free"}.get(price.origin, found["source"])
    out.print(f"{asked}: {price.model}, by {where}", markup=False)
    table = show.table("USD per million tokens", "standard", *_columns(found), right=("standard", *_columns(found)))
    for name in _TOKENS:
        row = [str(variant.get(name, found.get(name, ""))) for variant in found["variants"]]
        if name in found or any(row):
            show.add(table, name.replace("_", " "), str(found.get(name, "")), *row)
    out.print(table)
    request = {"requests": found["request"]} if price.request else {}
    for piece, fee in (request | found["fees"]).items():
        out.print(f"{fee} USD for each of its {piece}", markup=False)
    ends = f"; retires on {price.retires}" if price.retires else ""
    limits = f"at most {price.max_input or '?'} tokens in, {price.max_output or '?'} out"
    out.print(f"{limits}; {', '.join(found['features']) or 'text only'}{ends}", markup=False)


def _columns(found: Mapping[str, Any]) -> list[str]:
    return [
        variant["service"] + (f" > {variant['above'] // 1000}k" if variant["above"] else "")
        for variant in found["variants"]
    ]


def _print_checked(told: Mapping[str, Any], doubts: tuple[Doubt, ...]) -> None:
    out = show.console()
    left_out = ", ".join(f"{count} for {why}" for why, count in told["left_out"].items())
    out.print(f"{told['source']}, {told['as_of']}: {told['models']} models believed", markup=False)
    if left_out:
        out.print(f"left out: {left_out}", markup=False)
    kinds = Counter(doubt.what for doubt in doubts)
    for what, count in kinds.items():
        out.print(f"not believed, {what}: {count}", markup=False)
    for doubt in doubts[:_SHOWN]:
        out.print(f"  {doubt}", markup=False, soft_wrap=True)
    if len(doubts) > _SHOWN:
        out.print(f"  and {len(doubts) - _SHOWN} more (--json shows all)")
