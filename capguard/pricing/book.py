"""Prices as integers, and the book in which a model's name is looked up."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

from capguard.ledger.money import ceil_nano
from capguard.pricing.names import candidates
from capguard.pricing.usage import Usage

Origin = Literal["snapshot", "policy", "ceiling", "unpriced", "free"]
RATES = ("input", "output", "cache_read", "cache_write", "request")

_REMEMBERED = 4096
_LONGEST_NAME = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The rates of one model, in pico-dollars per token and per request.

    `model` is the name under which it was found, `version` that of the book. Limits are in tokens, None if unknown.
    """

    model: str
    input: int
    output: int
    cache_read: int
    cache_write: int
    request: int = 0
    max_input: int | None = None
    max_output: int | None = None
    origin: Origin = "snapshot"
    version: str = ""
    provider: str | None = None
    mode: str | None = None
    features: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        model: str,
        *,
        input: int,
        output: int,
        cache_read: int | None = None,
        cache_write: int | None = None,
        **rest: Any,
    ) -> Price:
        """A price whose cache rates, where none are given, are the input rate: that is how providers bill then."""
        read = input if cache_read is None else cache_read
        write = input if cache_write is None else cache_write
        return cls(model=model, input=input, output=output, cache_read=read, cache_write=write, **rest)

    def cost(self, usage: Usage) -> int:
        """What `usage` costs, in nano-dollars, rounded up once."""
        read, write = usage.cache_read_tokens, usage.cache_write_tokens
        return ceil_nano(
            (usage.input_tokens - read - write) * self.input
            + read * self.cache_read
            + write * self.cache_write
            + usage.output_tokens * self.output
            + usage.requests * self.request
        )

    @property
    def dearest_input(self) -> int:
        """The highest rate that an input token can be billed at, in pico-dollars: what a hold has to assume."""
        return max(self.input, self.cache_read, self.cache_write)

    def to_dict(self) -> dict[str, Any]:
        """The rates and where they came from, as the journal keeps them."""
        rates = {name: getattr(self, name) for name in RATES}
        return {"model": self.model, "origin": self.origin, "version": self.version, **rates}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Price:
        """The price of a journal's entry. Raises KeyError for an entry without model or rates."""
        rates: dict[str, Any] = {name: int(entry[name]) for name in RATES}
        return cls(model=entry["model"], origin=entry["origin"], version=entry["version"], **rates)


class PriceBook:
    """An immutable list of prices.

    `data` is canonical JSON (sorted keys, no blanks): `as_of`, `source`, `licence`, `source_version`, `features`, a
    list of names, and `models`, where each name has `[provider, mode, input, output, cache_read, cache_write, request,
    max_input, max_output, indexes of features]`; rates in pico-dollars.
    """

    def __init__(self, data: bytes):
        document = json.loads(data)
        self.version: str = hashlib.sha256(data).hexdigest()[:12]
        self.as_of = date.fromisoformat(document["as_of"])
        self.source = f"{document['source']} {document['source_version']}, {document['licence']}"
        self._features: list[str] = document["features"]
        self._rows: dict[str, list[Any]] = document["models"]
        self._lower = {name.lower(): name for name in self._rows}
        self._known = lru_cache(_REMEMBERED)(self._look_up)

    @classmethod
    def of(
        cls,
        models: Mapping[str, list[Any]],
        *,
        as_of: date,
        source: str,
        source_version: str = "",
        licence: str = "",
        features: tuple[str, ...] = (),
    ) -> PriceBook:
        """A book of these rows, in the shape of the class's docstring."""
        return cls(
            canonical(
                {
                    "as_of": as_of.isoformat(),
                    "source": source,
                    "source_version": source_version,
                    "licence": licence,
                    "features": list(features),
                    "models": dict(models),
                }
            )
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        """The listed names."""
        return iter(self._rows)

    def __contains__(self, model: str) -> bool:
        return self.find(model) is not None

    def find(self, model: str) -> Price | None:
        """The price of `model`: under its exact name, else the first of `names.candidates`. None if it is unknown.

        A price of zero is unknown too: lists carry zeros for what they do not know.
        """
        return self._known(model) if len(model) <= _LONGEST_NAME else None

    def closest(self, model: str) -> list[str]:
        """Up to three listed names that look like `model`, for a message."""
        wanted = model[:_LONGEST_NAME].lower()
        return [self._lower[name] for name in difflib.get_close_matches(wanted, self._lower, n=3, cutoff=0.6)]

    def _look_up(self, model: str) -> Price | None:
        if model in self._rows and (price := self._price(model)):
            return price
        for name in candidates(model):
            listed = self._lower.get(name) or self._dearest_tuned(name)
            if listed and (price := self._price(listed)):
                return price
        return None

    def _dearest_tuned(self, name: str) -> str | None:
        """`ft:gpt-4o` names no date; tuned models are listed with one. The dearest of them is a safe answer."""
        if not name.startswith("ft:"):
            return None
        dated = [listed for listed in self._rows if listed.startswith(f"{name}-20")]
        return max(dated, key=self._dearness, default=None)

    def _dearness(self, name: str) -> tuple[int, int, str]:
        _, _, given, made, *_ = self._rows[name]
        return made, given, name

    def _price(self, name: str) -> Price | None:
        provider, mode, given, made, read, write, request, max_input, max_output, features = self._rows[name]
        if not (given or made or request):
            return None
        return Price(
            model=name,
            input=given,
            output=made,
            cache_read=read,
            cache_write=write,
            request=request,
            max_input=max_input,
            max_output=max_output,
            version=self.version,
            provider=provider,
            mode=mode,
            features=frozenset(self._features[index] for index in features),
        )


def canonical(document: Mapping[str, Any]) -> bytes:
    """The one JSON text of a document, of which the version is a hash."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@lru_cache(1)
def bundled() -> PriceBook:
    """The book that is shipped: published list prices, compiled by scripts/compile_prices.py; read once.

    Source: LiteLLM's model_prices_and_context_window.json (https://github.com/BerriAI/litellm), Copyright 2023 Berri
    AI, MIT licence; retired models from scripts/retired_prices.json.
    """
    packed = files("capguard.pricing").joinpath("snapshot.json.gz").read_bytes()
    return PriceBook(gzip.decompress(packed))
