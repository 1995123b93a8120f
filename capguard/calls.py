"""The verbs of one call: hold, book, drop, lengthen, ask only, and decide and book in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from capguard import answers
from capguard.arguments import CallArgs, IdentityArgs, Request, checked_id, read_request
from capguard.booking import Booking
from capguard.call import Call
from capguard.detached import finished
from capguard.ledger.commands import Fetch
from capguard.ledger.flows import Flow
from capguard.ledger.outcomes import Found, Outcome
from capguard.planner import Draft
from capguard.refusals import Refusal
from capguard.reserving import Reserving
from capguard.results import Decision, Reservation, Settlement
from capguard.watch import watching

if TYPE_CHECKING:
    from capguard.pricing.usage import Usage


class Calls(Reserving):
    """What a `Guard` does for one call."""

    def call(self, **call: Unpack[CallArgs]) -> Call:
        """A call, to be entered with `with` or `async with`. The identity is that of the context which makes it."""
        return Call(self, self._asked(call))

    def reserve(self, **call: Unpack[CallArgs]) -> Reservation:
        """Hold a call's cost against every cap that applies. Raises CapExceeded; the caller settles or releases.

        Under an `id` that is remembered, the answer is that of the first time. Raises IdempotencyMismatch where its
        arguments were others, and where that call was released or has expired: nothing is held for it any more.
        """
        return self.hold(self._asked(call))[0]

    async def areserve(self, **call: Unpack[CallArgs]) -> Reservation:
        return (await self.ahold(self._asked(call)))[0]

    def settle(
        self, reservation: Reservation | str, response: Any = None, *, usage: Usage | None = None, cost: object = None
    ) -> Settlement:
        """Book what a call cost: a response, a `usage`, a `cost` in dollars; without any, what was expected.

        Exactly once per id: a repeat returns the first booking; one that differs raises IdempotencyMismatch. Raises
        UnknownReservation for an id that is not remembered; where capguard minted that longer ago than ids are
        remembered, an entry `dead_letter` keeps what was to be booked.
        """
        return answers.settlement(self._run(self._settling(reservation, response, usage, cost)))

    async def asettle(
        self, reservation: Reservation | str, response: Any = None, *, usage: Usage | None = None, cost: object = None
    ) -> Settlement:
        return answers.settlement(await finished(self._arun(self._settling(reservation, response, usage, cost))))

    def release(self, reservation: Reservation | str) -> None:
        """Drop a hold: nothing was billed. Once settled, a call stays settled."""
        self.carry_out(self.release_command(_id_of(reservation)))

    async def arelease(self, reservation: Reservation | str) -> None:
        await finished(self.acarry_out(self.release_command(_id_of(reservation))))

    def extend(self, reservation: Reservation | str, *, ttl: float | None = None, amount: object = None) -> Reservation:
        """Lengthen or raise a hold: totals, `ttl` in seconds from the reserve, `amount` in dollars; never lower.

        Raises CapExceeded where the raise does not fit, UnknownReservation where nothing is held.
        """
        return answers.extended(reservation, self.carry_out(answers.extension(_id_of(reservation), ttl, amount)))

    async def aextend(
        self, reservation: Reservation | str, *, ttl: float | None = None, amount: object = None
    ) -> Reservation:
        return answers.extended(reservation, await self.acarry_out(answers.extension(_id_of(reservation), ttl, amount)))

    def check(self, **call: Unpack[CallArgs]) -> Decision:
        """Ask whether a call would be let through now. Holds nothing and promises nothing."""
        return answers.decision(self._run(self._reserving(read_request(call), check_only=True))[1])

    async def acheck(self, **call: Unpack[CallArgs]) -> Decision:
        return answers.decision((await self._arun(self._reserving(read_request(call), check_only=True)))[1])

    def allow(self, **call: Unpack[CallArgs]) -> Decision:
        """Decide and book in one step: `if guard.allow(amount=3, unit="credits", user="u1"): ...`"""
        return self._decided(*self._run(self._reserving(self._asked(call), book=True)))

    async def aallow(self, **call: Unpack[CallArgs]) -> Decision:
        return self._decided(*await self._arun(self._reserving(self._asked(call), book=True)))

    def _asked(self, call: CallArgs) -> Request:
        return read_request(call, now_ms=self._clock(), shard_by=self._knowledge.shard_by)

    async def aexhausted(self, **identity: Unpack[IdentityArgs]) -> tuple[Refusal, ...]:
        """The block caps that would refuse any call of an identity now, however small: those that are spent."""
        smallest = read_request({**identity, "amount": 1, "unit": "requests"}, rewritable=False)
        anything = smallest._replace(known=dict.fromkeys(self._knowledge.planner.units, 1))
        decided = answers.decision((await self._arun(self._reserving(anything, check_only=True)))[1])
        return tuple(cap for cap in decided.refused if cap.action == "block" and cap.reason == "exhausted")

    def _decided(self, draft: Draft, outcome: Outcome) -> Decision:
        """The decision of an allow, once everybody was told."""
        self._tell_reserve(draft, outcome)
        return answers.decision(outcome)

    def _settling(
        self, reservation: Reservation | str, response: Any, usage: Usage | None, cost: object
    ) -> Flow[Outcome]:
        booking = answers.booking_of(reservation) if isinstance(reservation, Reservation) else None
        if booking is None:
            found = yield Fetch(_id_of(reservation))
            if not isinstance(found, Found) and response is usage is cost is None:
                return found
            booking = Booking.of(found.record) if isinstance(found, Found) else Booking.unknown(_id_of(reservation))
        command = booking.at(response, usage, cost, self._knowledge.planner.tariffs.of)
        outcome = yield command
        self._tell_booking(command, outcome)
        if (watch := watching()) is not None:
            watch.booked(outcome)
        return outcome


def _id_of(reservation: Reservation | str) -> str:
    return reservation.id if isinstance(reservation, Reservation) else checked_id(reservation)
