"""Whether a Guard can do its work right now, and what weakens its promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

from capguard.driver import Driver
from capguard.errors import BackendUnavailable
from capguard.ledger.commands import Look
from capguard.ledger.outcomes import Meters
from capguard.readable import instant
from capguard.resilience.sheltered import Sheltered
from capguard.shelf import Shelf

OLD_PRICES = timedelta(days=120)
SKEW_S = 5.0
"""A clock that is further off shows the wrong times; caps hold all the same, the backend's clock counts for them."""


@dataclass(frozen=True, slots=True)
class Health:
    """How a Guard stands. Truthy while the backend answers: what a readiness probe asks.

    `why` says what it answered instead. `breaker` is `closed` while it is asked, `open` while it is left alone.
    `waiting` are bookings that wait on this host, `let_through` calls that were let through without the backend and
    have not ended. `clock_offset` is the backend's clock less this process's, in seconds. `warnings` name every setting
    that weakens a promise, with its remedy.
    """

    url: str
    reachable: bool
    why: str | None
    breaker: str
    waiting: int
    let_through: int
    outbox: str | None
    clock_offset: float | None
    policy_revision: int | None
    prices_as_of: date
    at: datetime
    warnings: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.reachable

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: days and instants are ISO texts."""
        plain = {**asdict(self), "prices_as_of": self.prices_as_of.isoformat(), "at": self.at.isoformat()}
        return {"ok": bool(self), **plain, "warnings": list(self.warnings)}


class Checking(Driver):
    """What a `Guard` says of itself."""

    _shelf: Shelf

    def health(self) -> Health:
        """Ask the backend once, whether or not it was left alone until now. Never raises for one that is away."""
        sent_ms = self._clock()
        try:
            answer: Meters | BackendUnavailable = _meters(self._backend.execute(Look(())))
        except BackendUnavailable as error:
            answer = error
        return self._health(answer, sent_ms)

    async def ahealth(self) -> Health:
        sent_ms = self._clock()
        try:
            answer: Meters | BackendUnavailable = _meters(await self._backend.aexecute(Look(())))
        except BackendUnavailable as error:
            answer = error
        return self._health(answer, sent_ms)

    def _health(self, answer: Meters | BackendUnavailable, sent_ms: int) -> Health:
        now_ms = self._clock()
        offset = None if isinstance(answer, BackendUnavailable) else (answer.now_ms - (sent_ms + now_ms) / 2) / 1000
        at, prices = instant(now_ms), self._shelf.at(now_ms)
        assert at is not None
        sheltered = self._backend if isinstance(self._backend, Sheltered) else None
        return Health(
            url=self._backend.url,
            reachable=offset is not None,
            why=str(answer) if isinstance(answer, BackendUnavailable) else None,
            breaker="closed" if sheltered is None else sheltered.contact.state,
            waiting=0 if sheltered is None else len(sheltered.outbox),
            let_through=0 if sheltered is None else sheltered.outbox.open,
            outbox=None if sheltered is None else str(sheltered.outbox.folder),
            clock_offset=offset,
            policy_revision=self._knowledge.revision,
            prices_as_of=prices.as_of,
            at=at,
            warnings=(*self._backend.weaknesses(), *_doubts(offset, at.date() - prices.as_of)),
        )


def _meters(outcome: object) -> Meters:
    assert isinstance(outcome, Meters)
    return outcome


def _doubts(offset: float | None, age: timedelta) -> Sequence[str]:
    found = []
    if offset is not None and abs(offset) > SKEW_S:
        found.append(f"this host's clock is {-offset:+.0f} s off the backend's; run NTP on both")
    if age > OLD_PRICES:
        found.append(f"the prices are {age.days} days old; upgrade capguard or give a newer list: Guard(prices=...)")
    return found
