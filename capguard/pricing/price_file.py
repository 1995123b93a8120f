"""A price list in dollars per million tokens, as people write it.

    {"as_of": "2026-11-22", "source": "our contract", "models": {
      "my-model": {"input": "1.0", "output": "2.0", "cache_read": "0.1", "fees": {"searches": "0.01"},
                   "above": {"200000": {"input": "2.0", "output": "3.0"}},
                   "priority": {"input": "1.75", "output": "3.5"},
                   "from": {"2027-01-01": {"input": "0.9", "output": "2.0"}}}}}

`fees` are in dollars per piece, `request` in dollars per request. `from` has the row that holds from a day on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from capguard.ledger.money import pico_per_unit
from capguard.pricing.litellm_map import NAMES
from capguard.pricing.litellm_rates import hour_rate
from capguard.pricing.price import FEES, RARE, SERVICES

_MILLION = 10**6
_TOKENS = ("input", "output", "cache_read", "cache_write", *RARE)
_PLAIN = {"provider", "mode", "request", "max_input", "max_output", "features", "fees", "above", "from", "retires"}
_KNOWN = {*_TOKENS, *_PLAIN, *SERVICES}

Rows = dict[str, list[Any]]


def rows(models: Mapping[str, Any]) -> tuple[Rows, dict[str, Rows]]:
    """The rows of a list, and those that hold later, by model and day. Raises ValueError, naming model and field."""
    now: Rows = {}
    later: dict[str, Rows] = {}
    for name, written in models.items():
        now[name] = row_of(name, written)
        dated = written.get("from") or {}
        if dated:
            later[name] = {_day(name, day): row_of(name, {**written, **row}) for day, row in dated.items()}
    return now, later


def row_of(name: str, written: Any) -> list[Any]:
    """One row in the shape that PriceBook reads. A cache rate that is not said is the input rate."""
    if not isinstance(written, Mapping):
        raise ValueError(f"{name}: {written!r:.60} is no object; allowed: {{'input': '1.0', 'output': '2.0', ...}}")
    if unknown := written.keys() - _KNOWN:
        raise ValueError(f"{name}: unknown field {', '.join(sorted(unknown))}; allowed: {', '.join(sorted(_KNOWN))}")
    rates = _rates(name, written)
    given = rates.get("input", 0)
    base = [given, rates.get("output", 0), rates.get("cache_read", given), rates.get("cache_write", given)]
    rare = {kind: rate for kind, rate in rates.items() if kind in RARE}
    more = {
        "rare": {**hour_rate(str(written.get("provider")), given, base[3]), **rare},
        "fees": {piece: _rate(name, piece, fee, 1) for piece, fee in _fees(name, written).items()},
        "variants": _variants(name, written),
        "retires": written.get("retires"),
    }
    row = [
        *(written.get("provider", ""), written.get("mode", "chat"), *base),
        _rate(name, "request", written.get("request", 0), 1),
        *(written.get("max_input"), written.get("max_output")),
        sorted(_feature(name, feature) for feature in written.get("features", ())),
    ]
    said = {key: value for key, value in more.items() if value}
    return [*row, said] if said else row


def _rates(name: str, written: Mapping[str, Any]) -> dict[str, int]:
    return {kind: _rate(name, kind, written[kind], _MILLION) for kind in _TOKENS if kind in written}


def _rate(name: str, kind: str, value: Any, per: int) -> int:
    return pico_per_unit(value, per, f"{name}.{kind}")


def _fees(name: str, written: Mapping[str, Any]) -> Mapping[str, Any]:
    fees: Mapping[str, Any] = written.get("fees") or {}
    if unknown := fees.keys() - set(FEES):
        raise ValueError(f"{name}.fees: unknown piece {', '.join(sorted(unknown))}; allowed: {', '.join(FEES)}")
    return fees


def _variants(name: str, written: Mapping[str, Any]) -> list[list[Any]]:
    """Context sizes, then tiers of service, each of which may have sizes of its own."""
    found = _sizes(name, written, None)
    for service in SERVICES:
        if service in written:
            found.append([service, 0, _rates(f"{name}.{service}", written[service])])
            found += _sizes(f"{name}.{service}", written[service], service)
    return found


def _sizes(name: str, written: Mapping[str, Any], service: str | None) -> list[list[Any]]:
    sizes = sorted((int(size), rates) for size, rates in (written.get("above") or {}).items())
    return [[service, size, _rates(f"{name}.above.{size}", rates)] for size, rates in sizes]


def _feature(name: str, feature: str) -> int:
    if feature not in NAMES:
        raise ValueError(f"{name}.features: {feature!r} is refused; allowed: {', '.join(NAMES)}")
    return NAMES.index(feature)


def _day(name: str, text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"{name}.from: {text!r} is no day; allowed: 2027-01-01") from None
