"""Write the data of an installed genai-prices as its repository's prices/data.json has it: what check_prices.py reads.

    python scripts/genai_prices_json.py data.json

The package carries its prices as Python objects.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

_CONSTRAINTS = ("start_date", "start_time", "end_time")


def main() -> None:
    from genai_prices.data import providers  # type: ignore[import-not-found, unused-ignore]

    listed = [{"id": each.id, "models": [model_of(model) for model in each.models]} for each in providers]
    Path(sys.argv[1]).write_text(json.dumps(listed))


def model_of(model: Any) -> dict[str, Any]:
    steps = model.prices if isinstance(model.prices, list) else None
    prices = prices_of(model.prices) if steps is None else [step_of(step) for step in steps]
    return {"id": model.id, "match": rule_of(model.match), "prices": prices}


def step_of(step: Any) -> dict[str, Any]:
    constraint = {name: str(value) for name in _CONSTRAINTS if (value := getattr(step.constraint, name, None))}
    return {"prices": prices_of(step.prices), **({"constraint": constraint} if constraint else {})}


def prices_of(prices: Any) -> dict[str, Any]:
    return {name: price_of(value) for name, value in vars(prices).items() if value is not None and name[0] != "_"}


def price_of(value: Any) -> Any:
    if not hasattr(value, "tiers"):
        return str(value)
    return {
        "base": str(value.base),
        "tiers": [{"start": tier.start, "price": str(tier.price)} for tier in value.tiers],
    }


def rule_of(match: Any) -> dict[str, Any]:
    """A clause has one field: `equals`, `starts_with`, ..., or `or_` and `and_` with more of them."""
    field, *_ = dataclasses.fields(match)
    value = getattr(match, field.name)
    return {field.name.rstrip("_"): [rule_of(each) for each in value] if isinstance(value, list) else value}


if __name__ == "__main__":
    main()
