"""Meters that end when nobody uses them: a session or a run has no end that a calendar knows.

Such a meter counts per run. A run begins with the first call, and is over when no call was made, settled or extended
for `idle_ms`; a call that is open keeps it on.
"""

from __future__ import annotations

from collections.abc import Sequence

from capguard.ledger.books import Books
from capguard.ledger.caps import KEPT_MS, Leg
from capguard.ledger.commands import Candidate, Reserve


def on_runs(books: Books, command: Reserve, now_ms: int) -> Reserve:
    """The same command, with the run that is on, or begins now, for the period of every idle meter."""
    if not any(leg.idle_ms for candidate in command.candidates for leg in candidate.legs):
        return command
    candidates = tuple([_on_runs(books, candidate, now_ms) for candidate in command.candidates])
    return command._replace(candidates=candidates)


def _on_runs(books: Books, candidate: Candidate, now_ms: int) -> Candidate:
    return candidate._replace(legs=tuple([on_run(books, leg, now_ms) for leg in candidate.legs]))


def on_run(books: Books, leg: Leg, now_ms: int) -> Leg:
    """The leg in its run; unchanged where the meter is no idle one."""
    if not leg.idle_ms:
        return leg
    period, gone_ms = books.newest(leg.meter) or (now_ms, now_ms)
    if gone_ms - KEPT_MS <= now_ms:
        period, gone_ms = now_ms, now_ms + leg.idle_ms + KEPT_MS
    return leg._replace(period=period, since=period, ends=gone_ms - KEPT_MS)


def use(books: Books, legs: Sequence[Leg], now_ms: int, until_ms: int = 0) -> None:
    """Keep the runs on: for their idle time from now, and in any case `until_ms`."""
    for leg in legs:
        if leg.idle_ms:
            books.keep(leg, max(now_ms + leg.idle_ms, until_ms) + KEPT_MS)
