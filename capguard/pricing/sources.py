"""Where price lists come from: the package, an installed litellm's file, a file of one's own."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from capguard.pricing import litellm_map, price_file
from capguard.pricing.book import bundled

MOST_BYTES = 64 * 2**20
"""A larger file is no price list."""

Rows = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Listing:
    """A price list as it was read: rows in the shape that PriceBook reads, and those that hold from a later day.

    `meant` names models whose price is right however odd it looks; `dropped` counts rows that were left out, by why.
    """

    rows: Rows
    as_of: date
    source: str
    source_version: str = ""
    licence: str = ""
    later: Mapping[str, Rows] = field(default_factory=dict)
    meant: frozenset[str] = frozenset()
    dropped: Mapping[str, int] = field(default_factory=dict)


class PriceSource(Protocol):
    """A price list from outside of capguard, laid over the bundled one."""

    def stamp(self) -> object:
        """Something that is cheap to ask and changes whenever the list does; None where there is no list now."""

    def read(self) -> Listing:
        """The list. Raises OSError or ValueError where it cannot be read."""


class Bundled:
    """The list that is shipped; it never changes."""

    def stamp(self) -> object:
        return bundled().version

    def read(self) -> Listing:
        return Listing({}, bundled().as_of, bundled().source)


class ListFile:
    """A JSON file, also gzipped: LiteLLM's list, or one as in price_file.py. Any job may replace it at any time."""

    def __init__(self, path: str | Path, *, source: str = "", source_version: str = "", licence: str = ""):
        self.path = Path(path)
        self._source = source or str(path)
        self._version = source_version
        self._licence = licence

    def stamp(self) -> object:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def read(self) -> Listing:
        """As the format says that it finds. Raises ValueError that names the file."""
        try:
            return self._listing(self._text())
        except ValueError as error:  # json's own error is one
            raise ValueError(f"{self.path}: {error}") from None

    def _text(self) -> bytes:
        if self.path.stat().st_size > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES} bytes; allowed: a price list")
        data = self.path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data

    def _listing(self, text: bytes) -> Listing:
        loaded = json.loads(text, parse_float=str)
        if isinstance(loaded, dict) and isinstance(loaded.get("models"), dict):
            return self._own(loaded)
        dropped: Counter[str] = Counter()
        rows = dict(litellm_map.rows(litellm_map.parsed(text), dropped))
        return Listing(rows, self._day(), self._source, self._version, self._licence, dropped=dropped)

    def _own(self, document: Mapping[str, Any]) -> Listing:
        rows, later = price_file.rows(document["models"])
        as_of = date.fromisoformat(document["as_of"]) if "as_of" in document else self._day()
        source, meant = str(document.get("source") or self._source), frozenset(document.get("meant", ()))
        return Listing(rows, as_of, source, self._version, self._licence, later=later, meant=meant)

    def _day(self) -> date:
        return datetime.fromtimestamp(self.path.stat().st_mtime, UTC).date()


def litellm_source() -> ListFile:
    """The list of the installed litellm, which is not imported. Raises ValueError where it is not installed."""
    path = litellm_map.path_of()
    if path is None:
        raise ValueError("prices: litellm is not installed; allowed: bundled, or the path of a price list")
    try:
        installed = version("litellm")
    except PackageNotFoundError:
        installed = ""
    licence = "MIT, Copyright 2023 Berri AI"
    return ListFile(path, source="installed LiteLLM", source_version=installed, licence=licence)
