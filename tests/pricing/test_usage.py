"""Usage: one meaning for every provider, and nothing that cannot be billed."""

from __future__ import annotations

import pickle
from decimal import Decimal

import pytest

from capguard.pricing.usage import Usage

REFUSED = [
    ({"input_tokens": -1}, "input_tokens"),
    ({"input_tokens": 1.0}, "input_tokens"),
    ({"output_tokens": True}, "output_tokens"),
    ({"output_tokens": "7"}, "output_tokens"),
    ({"requests": None}, "requests"),
    ({"requests": -1}, "requests"),
    ({"input_tokens": 2**53}, "input_tokens"),
    ({"input_tokens": 10**5000}, "input_tokens"),
    ({"cache_read_tokens": 1}, "cache_read_tokens"),
    ({"input_tokens": 10, "cache_read_tokens": 6, "cache_write_tokens": 5}, "cache_write_tokens"),
    ({"output_tokens": 3, "reasoning_tokens": 4}, "reasoning_tokens"),
    ({"quantities": {"images": -1}}, "images"),
    ({"quantities": {"images": 1.5}}, "images"),
    ({"quantities": {"images": True}}, "images"),
    ({"quantities": {"images": "NaN"}}, "images"),
    ({"quantities": {"": 1}}, "quantities"),
]


@pytest.mark.parametrize(("fields", "named"), REFUSED)
def test_refuses_what_cannot_be_counted_and_names_the_field(fields: dict, named: str) -> None:
    """Bad counts raise ValueError that names the field."""
    with pytest.raises(ValueError, match=named):
        Usage(**fields)


def test_accepts_the_limits() -> None:
    """Zero, 2^53-1, a cache that is the whole input and reasoning that is the whole output are fine."""
    top = 2**53 - 1
    usage = Usage(
        input_tokens=top, cache_read_tokens=top - 1, cache_write_tokens=1, output_tokens=5, reasoning_tokens=5
    )
    assert usage.tokens == top + 5
    assert Usage().tokens == 0
    assert Usage().requests == 1


def test_is_frozen_hashable_and_picklable() -> None:
    """A usage crosses processes and serves as a key."""
    usage = Usage(model="m", input_tokens=1, quantities={"images": Decimal("1.5")})
    with pytest.raises(AttributeError):
        usage.input_tokens = 2  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(usage)) == usage
    assert hash(usage) == hash(Usage(model="m", input_tokens=1))


def test_keeps_its_own_copy_of_quantities() -> None:
    """Changing the caller's dict later does not change the usage."""
    given = {"images": 1}
    usage = Usage(quantities=given)
    given["images"] = 9
    assert usage.quantities == {"images": 1}


def test_adds_up() -> None:
    """Two usages together: every count, every unit, the first model that is named."""
    one = Usage(input_tokens=10, cache_read_tokens=4, output_tokens=3, quantities={"images": 1, "pages": "2"})
    two = Usage(model="m", input_tokens=1, output_tokens=2, reasoning_tokens=2, quantities={"images": "0.5"})
    both = one + two
    assert (both.model, both.input_tokens, both.cache_read_tokens, both.output_tokens) == ("m", 11, 4, 5)
    assert (both.reasoning_tokens, both.requests) == (2, 2)
    assert both.quantities == {"images": Decimal("1.5"), "pages": "2"}
