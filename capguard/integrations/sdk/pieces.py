"""Images: sold by the piece, where the policy gives their model a price per request, else by tokens."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from capguard.errors import UnknownModel
from capguard.guard import Guard
from capguard.ledger.money import NANO, PICO_PER_NANO
from capguard.pricing.fields import get, items_of

if TYPE_CHECKING:
    from capguard.integrations.sdk.asked import Asked


def held(guard: Guard, asked: Asked) -> dict[str, Any] | None:
    """The cost of the images that are asked for; None for a model that is not sold by the piece."""
    price = _price(guard, asked.model)
    return None if price is None else {"cost": price * (asked.body.get("n") or 1)}


def cost(guard: Guard, model: str | None, reply: Any) -> Decimal | None:
    """What the images of a reply cost; None for a model that is not sold by the piece."""
    price = _price(guard, model)
    return None if price is None else price * len(items_of(get(reply, "data")))


def _price(guard: Guard, model: str | None) -> Decimal | None:
    try:
        price = guard.tariff(model, None).price
    except UnknownModel:
        return None
    if price is None or not price.request:
        return None
    return Decimal(price.request) / (NANO * PICO_PER_NANO)
