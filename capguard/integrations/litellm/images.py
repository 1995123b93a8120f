"""Images: sold by the piece, where the policy gives their model a price per request, else by tokens."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from capguard.errors import UnknownModel
from capguard.guard import Guard
from capguard.ledger.money import NANO, PICO_PER_NANO
from capguard.pricing.fields import get, items_of


def known(guard: Guard, model: str | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What `n` images cost, as `cost` or nothing where the model has no price by the piece."""
    price = _by_piece(guard, model)
    return {} if price is None else {"cost": price * (kwargs.get("n") or 1)}


def cost(guard: Guard, model: str | None, reply: Any) -> Decimal | None:
    """What the images of a reply cost; None for a model that is not sold by the piece."""
    price = _by_piece(guard, model)
    return None if price is None else price * len(items_of(get(reply, "data")))


def _by_piece(guard: Guard, model: str | None) -> Decimal | None:
    try:
        price = guard.tariff(model, None).price
    except UnknownModel:
        return None
    if price is None or not price.request:
        return None
    return Decimal(price.request) / (NANO * PICO_PER_NANO)
