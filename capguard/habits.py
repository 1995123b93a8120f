"""How long replies usually are, by feature and model: what is held for a call that sets no output limit.

A decaying histogram on a logarithmic scale. On streams of known lengths (chat, two kinds, heavy tails, a shift by six)
its 99th percentile was exceeded by 0.7 to 1.2% of replies.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

ENOUGH = 30
"""Replies of one kind before their lengths are believed."""

DECAY = 0.995
"""What a reply weighs when the next one has come: the last 200 make the picture."""

_QUANTILE = 0.99
_STEPS = 8  # buckets for each doubling: an edge is at most 9% above the lengths below it
_HEAVY = 1e100
_KINDS = 4096
_FRESH = 8  # replies after which a percentile is worked out anew


class Habit(NamedTuple):
    """What is known of one kind of call: output tokens that 99 of 100 replies do not exceed, and the average."""

    most: int
    usual: int


class Histogram:
    """Lengths in buckets that grow by a twelfth or so, each a weight that fades."""

    __slots__ = ("_next", "_total", "_weights", "count")

    def __init__(self) -> None:
        self.count = 0
        self._weights: dict[int, float] = {}
        self._next = 1.0
        self._total = 0.0

    def add(self, length: int) -> None:
        """Take in one reply. Later ones weigh more, which is the same as if earlier ones faded."""
        bucket = _bucket(length)
        self._weights[bucket] = self._weights.get(bucket, 0.0) + self._next
        self._total += self._next
        self._next /= DECAY
        self.count += 1
        if self._next > _HEAVY:
            self._scale(1 / self._next)

    def habit(self) -> Habit:
        """The 99th percentile and the average, both as the upper edge of their bucket."""
        return Habit(self._most(), self._usual())

    def export(self) -> dict[str, Any]:
        """Plain JSON: how many replies, and the share of each bucket, as if the newest weighed 1."""
        return {"count": self.count, "weights": {str(b): weight / self._next for b, weight in self._weights.items()}}

    def merged(self, others: Iterable[Mapping[str, Any]]) -> Histogram:
        """This one and exported ones together."""
        whole = Histogram()
        for each in (self.export(), *others):
            whole.count += int(each["count"])
            for bucket, weight in each["weights"].items():
                whole._weights[int(bucket)] = whole._weights.get(int(bucket), 0.0) + float(weight)
                whole._total += float(weight)
        return whole

    def _scale(self, factor: float) -> None:
        self._weights = {bucket: weight * factor for bucket, weight in self._weights.items() if weight * factor > 1e-9}
        self._total = sum(self._weights.values())
        self._next *= factor

    def _most(self) -> int:
        above = self._total * (1 - _QUANTILE)
        for bucket in sorted(self._weights, reverse=True):
            above -= self._weights[bucket]
            if above < 0:
                return _edge(bucket)
        return 0

    def _usual(self) -> int:
        return round(sum(_edge(bucket) * weight for bucket, weight in self._weights.items()) / (self._total or 1))


class Habits:
    """The histograms of one process, and what it was told of other processes'. Kinds used last are remembered."""

    def __init__(self) -> None:
        self._own: OrderedDict[tuple[str, str], Histogram] = OrderedDict()
        self._others: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        self._whole: dict[tuple[str, str], Habit] = {}
        self.learned = 0

    def learn(self, feature: str | None, model: str | None, output_tokens: int) -> None:
        """Take in the length of one reply. How many there were is `learned`."""
        self.learned += 1
        kind = (feature or "", model or "")
        histogram = self._own.get(kind)
        if histogram is None:
            histogram = self._own[kind] = Histogram()
            while len(self._own) > _KINDS:
                self._whole.pop(self._own.popitem(last=False)[0], None)
        histogram.add(output_tokens)
        if histogram.count <= ENOUGH or histogram.count % _FRESH == 0:
            self._whole.pop(kind, None)

    def of(self, feature: str | None, model: str | None) -> Habit | None:
        """What is known of this kind of call; None before `ENOUGH` replies."""
        kind = (feature or "", model or "")
        if kind not in self._whole and (found := self._found(kind)) is not None:
            self._whole[kind] = found
        return self._whole.get(kind)

    def export(self) -> dict[str, Any]:
        """What this process itself has learned, as plain JSON: to be put where other processes find it."""
        kinds = [[*kind, histogram.export()] for kind, histogram in list(self._own.items())]
        return {"kinds": kinds}

    def merge(self, exports: Iterable[Mapping[str, Any]]) -> None:
        """Take in what other processes exported, in place of what was merged before: never one's own export.

        Raises ValueError for what is no export.
        """
        others: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        try:
            for export in exports:
                for feature, model, histogram in export["kinds"]:
                    Histogram().merged([histogram])
                    others.setdefault((str(feature), str(model)), []).append(histogram)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"habits: {error!r:.80}; allowed: what export() gave") from None
        self._others, self._whole = others, {}

    def _found(self, kind: tuple[str, str]) -> Habit | None:
        own, others = self._own.get(kind), self._others.get(kind)
        if own is None and others is None:
            return None
        whole = (own or Histogram()).merged(others) if others else own
        assert whole is not None
        return whole.habit() if whole.count >= ENOUGH else None


def _bucket(length: int) -> int:
    """Lengths below 2 * _STEPS have a bucket each; above, every doubling has _STEPS of them."""
    if length < 2 * _STEPS:
        return max(length, 0)
    shift = length.bit_length() - _STEPS.bit_length()
    return shift * _STEPS + (length >> shift)


def _edge(bucket: int) -> int:
    """The largest length in a bucket."""
    if bucket < 2 * _STEPS:
        return bucket
    shift, first = divmod(bucket, _STEPS)
    return ((first + _STEPS + 1) << (shift - 1)) - 1
