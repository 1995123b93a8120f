"""Images that are drawn: by their fee, by the price of a request, by their tokens, or as expected."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from capguard import Guard, Usage
from capguard.arguments import read_request
from capguard.call import Call
from capguard.pricing.book import bundled
from capguard.pricing.estimate import DEFAULT_OUTPUT, Output, estimated
from capguard.pricing.price import Price
from capguard.pricing.prompt import Prompt
from tests.kit import last

Opened = Callable[..., Guard]

CENT = 10**10  # pico-dollars

PRICED: list[tuple[str, dict[str, Any], Usage, int, bool]] = [
    ("a price per request", {"request": 4 * CENT}, Usage(quantities={"images": 3}), 12, False),
    ("one request at least", {"request": 4 * CENT}, Usage(quantities={"images": "0.5"}), 4, False),
    ("a fee", {"request": CENT, "fees": {"images": 4 * CENT}}, Usage(quantities={"images": 3}), 13, False),
    ("tokens", {"output": CENT}, Usage(output_tokens=2, quantities={"images": 3}), 2, False),
    (
        "tokens, and a request",
        {"output": CENT, "request": CENT},
        Usage(output_tokens=2, quantities={"images": 3}),
        3,
        False,
    ),
    ("nothing", {"output": CENT}, Usage(quantities={"images": 3}), 0, True),
    ("no image", {"request": 4 * CENT}, Usage(), 4, False),
    ("searches are no images", {"request": 4 * CENT}, Usage(quantities={"searches": 3}), 4, True),
]


@pytest.mark.parametrize(
    ("rates", "usage", "cents", "partial"), [each[1:] for each in PRICED], ids=[each[0] for each in PRICED]
)
def test_what_images_cost(rates: dict[str, Any], usage: Usage, cents: int, partial: bool):
    """Where nothing else pays for them, each is worth a request; `partial` only where nothing pays at all."""
    price = Price.of("m", **{"input": 0, "output": 0, **rates})
    assert (price.cost(usage), price.is_partial(usage)) == (cents * 10**7, partial)


HELD: list[tuple[str, Price, int]] = [
    ("a price per request", Price.of("m", input=0, output=0, request=4 * CENT), 12 * 10**7),
    ("a fee", Price.of("m", input=0, output=0, fees={"images": 4 * CENT}), 12 * 10**7),
    ("tokens", Price.of("m", input=0, output=1000), 3 * DEFAULT_OUTPUT),
    ("tokens of images alone", Price.of("m", input=0, output=0, rare={"image_output": 1000}), 3 * DEFAULT_OUTPUT),
]


@pytest.mark.parametrize(("price", "nano"), [each[1:] for each in HELD], ids=[each[0] for each in HELD])
def test_what_is_held_for_three_images(price: Price, nano: int):
    """As many as are asked for, by what will pay for them."""
    prompt = Prompt(prompt="A cat.", draws=True)
    got = estimated(price, "m", prompt, Output(DEFAULT_OUTPUT, DEFAULT_OUTPUT), n=3)
    assert (price.cost(got.held), price.cost(got.expected)) == (nano, nano)
    assert dict(got.held.quantities) == {"images": 3}


def test_gpt_image_is_held_at_what_it_may_cost():
    """Its text has no output rate, its images have one."""
    price = bundled().find("gpt-image-1")
    assert price is not None
    got = estimated(price, "gpt-image-1", Prompt(prompt="A cat.", draws=True), Output(4096, 4096))
    assert price.cost(got.held) > 4096 * 40_000


IMAGE = {"created": 1, "data": [{"b64_json": "aWs="}, {"b64_json": "aWs="}]}

BOOKED: list[tuple[str, dict[str, Any], str, tuple[str, ...]]] = [
    ("by the piece", {"request": "0.04"}, "0.08", ()),
    ("tokens that the reply does not tell", {"input": 0, "output": "100"}, "0.0064", ("uncertain", "no_usage")),
    ("free", {"free": True}, "0", ()),
]


@pytest.mark.parametrize(("rates", "cost", "flags"), [each[1:] for each in BOOKED], ids=[each[0] for each in BOOKED])
def test_what_a_reply_with_two_images_is_booked_at(opened: Opened, rates: dict[str, Any], cost: str, flags: Any):
    """A reply that tells nothing that has a price is no proof that it cost nothing."""
    guard = opened({"prices": {"m": rates}})
    ask = {"user": "u1", "model": "m", "prompt": "A cat.", "n": 2, "max_tokens": 32}
    with Call(guard, read_request(ask, draws=True)) as call:
        call.settle(IMAGE)
    assert (last(guard).cost, last(guard).flags) == (Decimal(cost), flags)
