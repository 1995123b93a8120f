"""What one call used, as the provider reports it, in one meaning for every provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from capguard.ledger.money import MAX_AMOUNT, decimal_of

_COUNTS = (
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "requests"),
    *("cache_write_1h_tokens", "audio_input_tokens", "image_input_tokens", "audio_output_tokens"),
    "image_output_tokens",
)
_PARTS = {
    "input_tokens": ("cache_read_tokens", "cache_write_tokens", "audio_input_tokens", "image_input_tokens"),
    "output_tokens": ("reasoning_tokens", "audio_output_tokens", "image_output_tokens"),
    "cache_write_tokens": ("cache_write_1h_tokens",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens, requests and own units of one call.

    `input_tokens` includes what was read from and written to a cache, and audio and image tokens;
    `cache_write_tokens` includes those that were written for an hour. `output_tokens` includes reasoning, audio and
    images. `quantities` counts pieces that have a fee (`searches`, `images`, `seconds`, `characters`, `pages`,
    `queries`) and units of one's own, such as gpu_seconds. `service` is the tier that served: `batch`, `flex`,
    `priority`, or None for the standard one.
    Raises ValueError, naming the field, for a count that is not an int from 0 to 2^53-1, for parts that exceed the
    whole which includes them, and for a quantity that is not a finite number of 0 or more.
    """

    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    requests: int = 1
    quantities: Mapping[str, int | Decimal | str] = field(default_factory=dict, hash=False)
    cache_write_1h_tokens: int = 0
    audio_input_tokens: int = 0
    image_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0
    service: str | None = None

    def __post_init__(self) -> None:
        for count in (
            self.input_tokens,
            self.output_tokens,
            self.cache_read_tokens,
            self.cache_write_tokens,
            self.reasoning_tokens,
            self.requests,
        ):
            if type(count) is not int or not 0 <= count <= MAX_AMOUNT:
                raise ValueError(self._refused_count())
        plain = self.cache_read_tokens + self.cache_write_tokens <= self.input_tokens and self.is_plain
        if not plain or self.reasoning_tokens > self.output_tokens:
            self._check_rare()
        if self.quantities:
            object.__setattr__(self, "quantities", _checked(self.quantities))

    @property
    def is_plain(self) -> bool:
        """Text alone, into and out of a cache of minutes: what nearly every call is."""
        return not (
            self.audio_input_tokens
            or self.image_input_tokens
            or self.audio_output_tokens
            or self.image_output_tokens
            or self.cache_write_1h_tokens
        )

    def _check_rare(self) -> None:
        for name in _COUNTS:
            count = getattr(self, name)
            if type(count) is not int or not 0 <= count <= MAX_AMOUNT:
                raise ValueError(self._refused_count())
        for whole, parts in _PARTS.items():
            counts = [getattr(self, part) for part in parts]
            if sum(counts) > getattr(self, whole):
                said = " + ".join(part for part, count in zip(parts, counts, strict=True) if count)
                numbers = " + ".join(str(count) for count in counts if count)
                raise ValueError(f"{said}: {numbers} exceed {whole}, {getattr(self, whole)}, which includes them")

    def _refused_count(self) -> str:
        for name in _COUNTS:
            count = getattr(self, name)
            if type(count) is not int or not 0 <= count <= MAX_AMOUNT:
                break
        return f"{name}: {_short(count)} is refused; allowed: an int from 0 to 2^53-1"

    def __add__(self, other: Usage) -> Usage:
        """Both together; the model is the first that is named. Own units that both have are added."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        quantities = dict(self.quantities)
        for unit, amount in other.quantities.items():
            quantities[unit] = decimal_of(quantities[unit]) + decimal_of(amount) if unit in quantities else amount
        service = self.service or other.service
        return Usage(model=self.model or other.model, quantities=quantities, service=service, **counts)

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


def _short(value: object) -> str:
    return f"an int of {value.bit_length()} bits" if type(value) is int and value > MAX_AMOUNT else repr(value)[:60]


def _checked(quantities: Mapping[str, int | Decimal | str]) -> dict[str, int | Decimal | str]:
    for unit, amount in quantities.items():
        if not isinstance(unit, str) or not unit:
            raise ValueError(f"quantities: {unit!r:.60} is not the name of a unit; allowed: a non-empty str")
        if isinstance(amount, float):
            raise ValueError(f"quantities[{unit!r}]: {amount!r} is a float; allowed: int, Decimal or str, 0 or more")
        decimal_of(amount, f"quantities[{unit!r}]")
    return dict(quantities)
