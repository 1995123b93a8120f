"""A real trace to replay: 3,000 conversation requests to a language model service, and users to make them.

The data is a slice of the Azure Public Dataset (AzureLLMInferenceDataset2023, CC-BY 4.0), see `data/README.md`.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Collection
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple

_FILE = "azure_conv_slice.csv"
_ZIPF_EXPONENT = 1.1


class Request(NamedTuple):
    """One request of the trace: seconds after the first one, tokens of the prompt, tokens generated."""

    arrival_s: float
    input_tokens: int
    output_tokens: int


def load_trace(limit: int | None = None) -> list[Request]:
    """The first `limit` requests in order of arrival, all 3,000 if None.

    Raises ValueError for a negative limit, FileNotFoundError where the data was not installed.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit: {limit} is refused; allowed: 0 or more, or None for all")
    with _data().open(encoding="utf-8") as lines:
        rows = islice(csv.DictReader(lines), limit)
        return [Request(float(r["arrival_s"]), int(r["input_tokens"]), int(r["output_tokens"])) for r in rows]


def users(seed: int, count: int, requests: Collection[object]) -> list[int]:
    """The user of each request, 0 to `count - 1`: a seeded Zipf draw with exponent 1.1, user 0 the busiest.

    The trace names no users; in life a few of them make most of the traffic. The same seed gives the same draw.
    Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count: {count} is refused; allowed: 1 or more")
    shares = accumulate((rank + 1) ** -_ZIPF_EXPONENT for rank in range(count))
    draw = random.Random(seed)  # noqa: S311  a reproducible draw, not a secret
    return draw.choices(range(count), cum_weights=list(shares), k=len(requests))


def _data() -> Traversable:
    """The data as the wheel carries it, or as the repository does."""
    places: list[Traversable] = [
        files("capguard.testing") / "data" / _FILE,
        Path(__file__).parents[2] / "examples" / "data" / _FILE,
    ]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(f"{_FILE} is not installed; looked for it at {' and '.join(map(str, places))}")
