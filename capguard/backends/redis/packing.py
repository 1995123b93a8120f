"""What the scripts need of legs and amounts, packed: numbers as eight bytes each, which Lua reads in one call.

Caps change seldom and their legs are the same objects or equal ones from call to call: what is made of them is kept.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

from capguard.ledger.caps import Amounts, Leg

T = TypeVar("T")

ACTIONS = ("block", "clamp", "throttle", "downgrade", "warn", "dry_run", "included", "grant")
"""By their numbers from 1 on (lua/store.lua); the first three refuse."""

_NUMBERS = {action: number for number, action in enumerate(ACTIONS, start=1)}
_LEG = struct.Struct(">24s24s6s11d")

_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)
_made: Any = getattr(json.encoder, "c_make_encoder", None)
_in_c = _made and _made(None, _encoder.default, json.encoder.encode_basestring, None, ":", ",", False, False, True)


def encode(value: Any) -> str:
    """JSON. The standard library makes its encoder anew for each text, which costs more than the text."""
    return "".join(_in_c(value, 0)) if _in_c else _encoder.encode(value)


class Meters(NamedTuple):
    """The meters of one call, packed: its legs, then its sources."""

    keys: tuple[str, ...]
    packed: bytes
    units: tuple[str, ...]
    """Names of units: in numbers and in `unit_of` a unit is meant by its place here, from 1 on."""
    unit_of: bytes
    legs: str
    """JSON, as `sources`."""
    sources: str
    names: str
    """JSON: the names of the units, and of the sources' caps."""
    plain: bool
    """Whether lua/plain.lua may take them: caps alone, each with a meter of its own that neither rolls nor idles."""


@lru_cache(maxsize=4096)
def meters_of(legs: tuple[Leg, ...], sources: tuple[Leg, ...], counted: tuple[str, ...]) -> Meters:
    """The meters of a call that is counted in these units."""
    all_legs = legs + sources
    units = tuple(dict.fromkeys([*counted, *(leg.unit for leg in all_legs)]))
    return Meters(
        tuple([leg.meter for leg in all_legs]),
        pack_legs(all_legs),
        units,
        bytes([units.index(leg.unit) + 1 for leg in all_legs]),
        encode(legs),
        encode(sources),
        encode([units, [source.cap for source in sources]]),
        not sources
        and len({leg.meter for leg in legs}) == len(legs)
        and not any(leg.rolling or leg.idle_ms for leg in legs),
    )


def pack_legs(legs: Iterable[Leg]) -> bytes:
    return b"".join([_leg(leg) for leg in legs])


def _leg(leg: Leg) -> bytes:
    return _LEG.pack(
        meter := leg.meter.encode(),
        meter,  # its row, if it is that of a period
        leg.period.to_bytes(6),
        leg.period,
        leg.limit,
        leg.since,
        leg.ends,
        _NUMBERS[leg.action],
        leg.step,
        leg.otherwise == "block",
        leg.overage_only,
        leg.ignore_grants,
        leg.min_output,
        leg.idle_ms,
    )


def pack_amounts(units: Sequence[str], amounts: Amounts) -> bytes:
    """The amounts in the order of `units`."""
    return pack_numbers(*[amounts.get(unit, 0) for unit in units])


def pack_numbers(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}d", *numbers)


class Kept(Generic[T]):
    """What was made of an object that nobody changes, as long as the same object comes again."""

    def __init__(self, make: Callable[[Any], T], size: int = 1024):
        self._make, self._size = make, size
        self._found: dict[int, tuple[Any, T]] = {}

    def __call__(self, of: Any) -> T:
        found = self._found.get(id(of))
        if found is not None and found[0] is of:
            return found[1]
        made = self._make(of)
        if len(self._found) >= self._size:
            self._found.clear()
        self._found[id(of)] = (of, made)
        return made
