"""Time two pieces of work in turns, so that a noisy machine disturbs both alike, and give the median of the ratios."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Pair:
    """Microseconds per piece of work, medians over the rounds, and the median of ours / theirs within each round."""

    ours_us: float
    theirs_us: float
    ratio: float
    spread: tuple[float, float]


def in_turns(ours: Work, theirs: Work, *, rounds: int = 40, batch: int = 50, batch_theirs: int | None = None) -> Pair:
    """Run both in batches that alternate. `spread` is the middle half of the ratios."""
    mine: list[float] = []
    yours: list[float] = []
    for work in (ours, theirs):
        _time(work, batch)
    gc.disable()
    try:
        for _ in range(rounds):
            mine.append(_time(ours, batch))
            yours.append(_time(theirs, batch_theirs or batch))
    finally:
        gc.enable()
    ratios = sorted(a / b for a, b in zip(mine, yours, strict=True))
    quarter = len(ratios) // 4
    middle = (ratios[quarter], ratios[-quarter - 1])
    return Pair(statistics.median(mine), statistics.median(yours), statistics.median(ratios), middle)


def _time(work: Work, batch: int) -> float:
    started = time.perf_counter()
    for _ in range(batch):
        work()
    return (time.perf_counter() - started) / batch * 1e6
