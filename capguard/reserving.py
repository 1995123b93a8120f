"""Holding a request that was read already: with what is known, learning what is newer, waiting where a cap says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from capguard import answers, notices
from capguard.admitting import Sizing
from capguard.arguments import Request, checked_id
from capguard.booking import Booking
from capguard.detached import finished
from capguard.driver import Driver
from capguard.errors import BackendUnavailable, CapExceeded
from capguard.ledger.commands import Release, Reserve
from capguard.ledger.flows import Aim, Flow, waiting
from capguard.ledger.ids import RETENTION_MS
from capguard.ledger.outcomes import Denied, Outcome, Stale
from capguard.ledger.waiting import WaitingLine
from capguard.planner import Draft
from capguard.results import Reservation
from capguard.watch import watching

if TYPE_CHECKING:
    from capguard.pricing.tariff import Tariff

log = logging.getLogger("capguard")


class Reserving(Driver):
    """What `Call` and the adapters need of a `Guard`."""

    _line: WaitingLine

    def hold(self, request: Request) -> tuple[Reservation, Booking]:
        """Reserve a request that was read already."""
        waits = not _in_event_loop()  # a throttle cap must not stop the loop that it is asked in
        with _reported():
            return self._told(*self._run(self._reserving(request, waits=waits)))

    async def ahold(self, request: Request) -> tuple[Reservation, Booking]:
        """As `hold`, without blocking the event loop. Cancelled, it drops a hold that the caller never learns of."""
        try:
            with _reported():
                return self._told(*await self._arun(self._reserving(request, waits=True)))
        except asyncio.CancelledError:
            await finished(self._drop(request.id))
            raise

    async def _drop(self, id: str) -> None:
        try:
            await self._backend.aexecute(self.release_command(id))
        except BackendUnavailable as error:
            log.warning("capguard: the hold of %s, whose call was cancelled, remains until it expires: %s", id, error)

    def tariff(self, model: str | None, plan: str | None) -> Tariff:
        """By what a call of `model` on `plan` is counted."""
        return self._knowledge.planner.tariffs.of(model, plan)

    @staticmethod
    def release_command(id: str) -> Release:
        return Release(checked_id(id), RETENTION_MS)

    def taken_over(
        self, request: Request, asked: Request, reservation: Reservation, booking: Booking
    ) -> tuple[Reservation, Booking]:
        """An outer layer's reservation as the inner layer sees it: booked at the inner model's rates."""
        return self._knowledge.planner.taken_over(request, asked, reservation, booking)

    def _told(self, draft: Draft, outcome: Outcome) -> tuple[Reservation, Booking]:
        """The reservation, once everybody was told what its caps said."""
        self._tell_reserve(draft, outcome)
        return answers.held(draft, outcome)

    def _tell_reserve(self, draft: Draft, outcome: Outcome) -> None:
        route = draft.route
        notices.tell(self._observers, notices.of_reserve(outcome, draft.request.id, route.named, route.unknown_plan))

    def _reserving(
        self, request: Request, *, book: bool = False, check_only: bool = False, waits: bool = False
    ) -> Flow[tuple[Draft, Outcome]]:
        """Reserve with what is known, learning what is newer; the draft that it came to, and its outcome."""
        drafts: list[Draft] = []

        def build(now_ms: int | None, waits: bool = False, bound: bool = True) -> Reserve:
            at_ms = self._clock() if now_ms is None else now_ms
            drafts[:] = [self._knowledge.draft(request, at_ms, book=book, bound=bound)]
            return drafts[0].command(at_ms, waits=waits)

        def learn(stale: Stale) -> None:
            self._tell_crossed(stale)
            self._knowledge.learn(request.identity.user, stale)

        def attempt(aim: Aim) -> Flow[Outcome]:
            looking = check_only or aim == "look"
            return (yield from sizing.attempt(check_only=looking, waits=aim == "wait", book=book))

        def throttles() -> tuple[str, ...]:
            return tuple(leg.meter for leg in build(None).candidates[0].legs if leg.action == "throttle")

        def on_wait(outcome: Denied) -> None:
            notices.tell(self._observers, notices.of_throttle(outcome, request.id, drafts[0].route.named))

        sizing = Sizing(request, build, lambda: drafts[0], learn, self._tell_crossed)
        outcome = yield from waiting(attempt, self._line, throttles, on_wait) if waits else attempt("last")
        return drafts[0], outcome


@contextmanager
def _reported() -> Iterator[None]:
    """Let the host that serves this request know whether its call was let through."""
    watch = watching()
    try:
        yield
    except (CapExceeded, BackendUnavailable) as error:
        if watch is not None:
            watch.refuses(error)
        raise
    if watch is not None:
        watch.admitted()


def _in_event_loop() -> bool:
    """Whether this thread runs an event loop, which nothing synchronous may stop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
