"""While a stream passes: when its hold must grow, when it must live longer, and when the stream has to end.

A hold covers what a call may cost at most, as far as that was known. A stream that comes near it asks for more in time;
one that lasts sends heartbeats, so that its hold does not expire under it.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from capguard.booking import Booking, TariffOf
from capguard.ledger.commands import Extend
from capguard.ledger.outcomes import Denied, Extended, Outcome
from capguard.pricing.stream import StreamReader

OnExceeded = Literal["finish", "cut"]

TOP_UP = 0.8
"""The share of its hold at which a stream asks for more."""

GROWTH = 1.5
"""How much more: the hold becomes what has passed times this."""

BEATS = 3
"""Heartbeats in one time to live."""

LONGEST_MS = 3_600_000
"""How long heartbeats keep one hold alive; a stream that lasts longer is settled late."""

FIRST_LOOK = 200
"""Characters that pass before the first count. Later ones come as the length doubles, or sooner near the mark."""


class CountingReader(StreamReader):
    """A StreamReader that knows how many characters it has seen without joining them."""

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def _say(self, *texts: Any) -> None:
        super()._say(*texts)
        self.length += sum(len(text) for text in texts if isinstance(text, str))


class Lease(NamedTuple):
    """A hold as a stream finds it: nano-dollars, and milliseconds since the epoch.

    `bounded`: the call names an output limit, so that only what the provider adds to it can outgrow the hold.
    """

    held: int
    since_ms: int
    ends_ms: int
    bounded: bool


class StreamMeter:
    """Asked after every chunk, it says what to ask of the ledger. `goes_on` is false once the stream has to end."""

    def __init__(self, booking: Booking, lease: Lease, price: TariffOf, on_exceeded: OnExceeded):
        self.reader = CountingReader()
        self.goes_on = True
        self._booking = booking
        self._lease = lease
        self._price = price
        self._cuts = on_exceeded == "cut"
        self._held = lease.held
        self._refused = False
        self._look_at: float = FIRST_LOOK if lease.held else math.inf
        self._beat_ms = max(1, (lease.ends_ms - lease.since_ms) // BEATS)
        self._beat_at = lease.since_ms + self._beat_ms

    @property
    def flags(self) -> tuple[str, ...]:
        """What the entry says of a stream that was ended here."""
        return () if self.goes_on else ("cut",)

    def asks(self, now_ms: int) -> Extend | None:
        """What to ask of the ledger now that a chunk has passed: more money, more time, or nothing."""
        if self.reader.length >= self._look_at and (amounts := self._more()):
            return Extend(self._booking.id, None, amounts)
        if now_ms < self._beat_at:
            return None
        self._beat_at = now_ms + self._beat_ms
        lived = now_ms - self._lease.since_ms
        return Extend(self._booking.id, min(lived + BEATS * self._beat_ms, LONGEST_MS), None)

    def answered(self, asked: Extend, outcome: Outcome | None) -> None:
        """What the ledger said; None where it did not answer, so that nothing is known."""
        if not isinstance(outcome, Extended | Denied | None):  # ended: the stream settles late
            self._look_at, self._beat_at = math.inf, 1 << 62
        elif asked.amounts and isinstance(outcome, Denied):
            self.goes_on = not (self._refused and self._cuts)
            self._look_at = self.reader.length if self._cuts else math.inf
            self._refused = True
        elif asked.amounts:
            self._held, self._refused = max(self._held, asked.amounts["usd"]), False
            self._look_after(int(asked.amounts["usd"] / GROWTH))

    def _more(self) -> dict[str, int] | None:
        """The amounts to hold from now on, None as long as what has passed leaves room enough."""
        seen = self._booking.at_seen(self.reader, self._price).amounts
        usd = seen.get("usd", 0)
        over = self.reader.usage is not None and not self.reader.partial
        if over or usd <= self._mark:
            self._look_after(usd)
            return None
        return {unit: int(amount * GROWTH) for unit, amount in seen.items()}

    @property
    def _mark(self) -> float:
        """Nano-dollars that may pass before more is asked for."""
        return self._held if self._refused or self._lease.bounded else self._held * TOP_UP

    def _look_after(self, usd: int) -> None:
        """Count again where the mark would be met, were every character to cost what those so far did."""
        growth = self._mark / usd if usd else 2.0
        self._look_at = self.reader.length * min(max(growth, 1.01), 2.0) + 1
