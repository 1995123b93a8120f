"""The book of prices, in which a model's name is looked up."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from datetime import date
from functools import lru_cache
from importlib.resources import files
from typing import Any

from capguard.pricing.names import candidates
from capguard.pricing.price import Price, Variant

_REMEMBERED = 4096
_LONGEST_NAME = 256
_ALWAYS = ""


class PriceBook:
    """An immutable list of prices, as they hold on one day.

    `data` is canonical JSON (sorted keys, no blanks): `as_of`, `source`, `licence`, `source_version`; `features`, a
    list of names; `rows`, each `[provider, mode, input, output, cache_read, cache_write, request, max_input,
    max_output, indexes of features, more]` with rates in pico-dollars, where `more` has what few models have (see
    `_more`); `models`, where each name has the index of its row, or, where its price changes, `[[from, index], ...]`
    with days as ISO text, the first one empty.
    """

    def __init__(self, data: bytes, today: date | None = None):
        document = json.loads(data)
        self.version: str = hashlib.sha256(data).hexdigest()[:12]
        self.as_of = date.fromisoformat(document["as_of"])
        about = " ".join(part for part in (document["source"], document["source_version"]) if part)
        self.source = ", ".join(part for part in (about, document["licence"]) if part)
        self.today = self.as_of if today is None else today
        self._features: list[str] = document["features"]
        self._all: list[list[Any]] = document["rows"]
        self._models: dict[str, int | list[tuple[str, int]]] = document["models"]
        self._lower = {name.lower(): name for name in self._models}
        self._known = lru_cache(_REMEMBERED)(self._look_up)

    @classmethod
    def of(
        cls,
        models: Mapping[str, Sequence[Any]],
        *,
        as_of: date,
        source: str,
        source_version: str = "",
        licence: str = "",
        features: Sequence[str] = (),
        later: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    ) -> PriceBook:
        """A book of these rows; `later` has rows by model and the day from which they hold."""
        origin = {"source": source, "source_version": source_version, "licence": licence}
        return cls(packed(models, later or {}, {"as_of": as_of.isoformat(), "features": list(features), **origin}))

    def under(
        self,
        rows: Mapping[str, Sequence[Any]],
        later: Mapping[str, Mapping[str, Sequence[Any]]],
        as_of: date,
        source: str,
    ) -> PriceBook:
        """This book with other rows over it; features are those of this book."""
        if not rows:
            return self
        mine = {name: self.row(name) for name in self._models}
        return PriceBook.of({**mine, **rows}, as_of=as_of, source=source, features=self._features, later=later)

    @property
    def names(self) -> Collection[str]:
        """The listed names."""
        return self._models.keys()

    def on(self, today: date) -> PriceBook:
        """The same list as it holds on another day."""
        if today == self.today:
            return self
        other = copy(self)
        other.today = today
        other._known = lru_cache(_REMEMBERED)(other._look_up)
        return other

    def next_change(self) -> date | None:
        """The first day after today on which a listed price changes."""
        days = {day for dated in self._models.values() if isinstance(dated, list) for day, _ in dated}
        return min((date.fromisoformat(day) for day in days if day > self.today.isoformat()), default=None)

    def __len__(self) -> int:
        return len(self._models)

    def __iter__(self) -> Iterator[str]:
        """The listed names."""
        return iter(self._models)

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

    def row(self, name: str) -> list[Any]:
        """The row of a listed name that holds today. Raises KeyError."""
        dated = self._models[name]
        if isinstance(dated, int):
            return self._all[dated]
        today = self.today.isoformat()
        return self._all[[index for day, index in dated if day <= today][-1]]

    def price(self, name: str) -> Price | None:
        """The price of a listed name; None for a price of zero. Raises KeyError for a name that is not listed."""
        provider, mode, given, made, read, write, request, max_input, max_output, features, *more = self.row(name)
        rest: dict[str, Any] = _more(more[0]) if more else {}
        if not (given or made or request or rest.get("fees")):
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
            **rest,
        )

    def _look_up(self, model: str) -> Price | None:
        if model in self._models and (price := self.price(model)):
            return price
        for name in candidates(model):
            listed = self._lower.get(name) or self._dearest_tuned(name)
            if listed and (price := self.price(listed)):
                return price
        return None

    def _dearest_tuned(self, name: str) -> str | None:
        """`ft:gpt-4o` names no date; tuned models are listed with one. The dearest of them is a safe answer."""
        if not name.startswith("ft:"):
            return None
        dated = [listed for listed in self._models if listed.startswith(f"{name}-20")]
        return max(dated, key=self._dearness, default=None)

    def _dearness(self, name: str) -> tuple[int, int, str]:
        _, _, given, made, *_ = self.row(name)
        return made, given, name


def _more(more: Mapping[str, Any]) -> dict[str, Any]:
    """`rare` and `fees` by name, `variants` as `[service, above, rates]`, `retires` as an ISO day."""
    variants = tuple(Variant(*each) for each in more.get("variants", ()))
    return {
        "rare": more.get("rare", {}),
        "fees": more.get("fees", {}),
        "variants": variants,
        "retires": more.get("retires"),
    }


def packed(
    models: Mapping[str, Sequence[Any]], later: Mapping[str, Mapping[str, Sequence[Any]]], about: Mapping[str, Any]
) -> bytes:
    """The canonical JSON of a book; equal rows, of which there are many, are written once."""
    rows: dict[str, int] = {}

    def place(row: Sequence[Any]) -> int:
        return rows.setdefault(canonical(list(row)).decode(), len(rows))

    listed: dict[str, int | list[tuple[str, int]]] = {}
    for name, row in sorted(models.items()):
        dated = sorted(later.get(name, {}).items())
        listed[name] = [(_ALWAYS, place(row)), *((day, place(each)) for day, each in dated)] if dated else place(row)
    return canonical({**about, "rows": [json.loads(text) for text in rows], "models": listed})


def canonical(document: Any) -> bytes:
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
