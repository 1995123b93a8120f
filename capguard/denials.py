"""Refusals counted for a report: how often each cap refused, and whom, as far as the cap's scope tells."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from capguard.ledger.outcomes import RefusalCount
from capguard.report import DenialRow


class Denials:
    """Takes in refusal counts, page by page. They bear the cap and whom it counts, and nothing else of the call."""

    def __init__(self, by: str):
        self._by = by
        self._times: Counter[tuple[str, str | None]] = Counter()

    def add(self, counts: Iterable[RefusalCount]) -> None:
        for count in counts:
            self._times[count.cap, json.loads(count.scope).get(self._by)] += count.times

    def rows(self) -> tuple[DenialRow, ...]:
        """By cap and group, the most refusals first."""
        most = sorted(self._times.items(), key=lambda each: (-each[1], each[0][0], each[0][1] or ""))
        return tuple(DenialRow(cap, key, times) for (cap, key), times in most)
