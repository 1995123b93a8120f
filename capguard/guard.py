"""Guard: the object that users hold. One-line shells, sync and async, over the same flows; only here outcomes raise."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack

from capguard import answers, notices
from capguard.arguments import CallArgs, IdentityArgs, Request, checked_id, only_identity, read_request
from capguard.backends.base import Backend, Clock, arun, run, system_clock
from capguard.backends.disabled import DisabledBackend, is_disabled
from capguard.booking import Booking
from capguard.call import Call
from capguard.disabled import without_refusals
from capguard.errors import BackendUnavailable, PolicyError
from capguard.ledger.commands import Command, Fetch, Journal, Look, Release, Verify
from capguard.ledger.flows import Flow, reserving
from capguard.ledger.outcomes import Found, Outcome
from capguard.planner import RETENTION_MS, Draft, Planner
from capguard.plugins.manager import open_backend
from capguard.policy.load import load_policy
from capguard.results import Decision, Entry, Reservation, Settlement, Status, Verification

if TYPE_CHECKING:
    from capguard.policy.document import Policy
    from capguard.pricing.tariff import Tariff
    from capguard.pricing.usage import Usage

log = logging.getLogger("capguard")


class Guard:
    """A ledger and the policy that holds for it.

    `url` names the backend: `sqlite:///capguard.db` or `memory://`. `policy` is a path to TOML, YAML or JSON, a dict,
    or a `Policy`. `namespace` keeps products apart in one backend. `clock` gives milliseconds since the epoch; the
    default is the system's. One Guard serves many threads and event loops. With `CAPGUARD_DISABLED=1` every call
    passes, loudly.

    Raises PolicyError for a policy that is refused, ValueError for a URL that no backend serves.
    """

    def __init__(
        self,
        url: str,
        *,
        policy: Policy | dict[str, Any] | str | os.PathLike[str] | None = None,
        namespace: str = "default",
        clock: Clock | None = None,
    ):
        if policy is None:
            raise PolicyError(
                "no policy: pass policy=, a file, a dict or a Policy; policy={} has no caps and books all"
            )
        self._clock = clock or system_clock
        loaded = load_policy(policy)
        self._backend: Backend
        if is_disabled():
            loaded, self._backend = without_refusals(loaded), DisabledBackend(self._clock)
        else:
            self._backend = open_backend(url, namespace=namespace, clock=self._clock)
        self._planner = Planner(loaded)

    @classmethod
    def from_env(cls) -> Guard:
        """A Guard from CAPGUARD_URL (default `sqlite:///capguard.db`) and CAPGUARD_POLICY, a path."""
        path = os.environ.get("CAPGUARD_POLICY")
        if not path:
            raise PolicyError("CAPGUARD_POLICY is not set: it names the policy's file (.toml, .yaml or .json)")
        return cls(os.environ.get("CAPGUARD_URL") or "sqlite:///capguard.db", policy=path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._backend.url!r})"

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._planner.policy

    # one call

    def call(self, **call: Unpack[CallArgs]) -> Call:
        """A call, to be entered with `with` or `async with`. The identity is that of the context which makes it."""
        return Call(self, read_request(call))

    def reserve(self, **call: Unpack[CallArgs]) -> Reservation:
        """Hold a call's cost against every cap that applies. Raises CapExceeded; the caller settles or releases."""
        return self.hold(read_request(call))[0]

    async def areserve(self, **call: Unpack[CallArgs]) -> Reservation:
        return (await self.ahold(read_request(call)))[0]

    def settle(
        self, reservation: Reservation | str, response: Any = None, *, usage: Usage | None = None, cost: object = None
    ) -> Settlement:
        """Book what a call cost: a response, a `usage`, a `cost` in dollars; without any, what was expected.

        Exactly once per id: a repeat returns the first booking; one that differs raises IdempotencyMismatch. Raises
        UnknownReservation for an id that is not remembered.
        """
        return answers.settlement(run(self._settling(reservation, response, usage, cost), self._backend))

    async def asettle(
        self, reservation: Reservation | str, response: Any = None, *, usage: Usage | None = None, cost: object = None
    ) -> Settlement:
        return answers.settlement(await arun(self._settling(reservation, response, usage, cost), self._backend))

    def release(self, reservation: Reservation | str) -> None:
        """Drop a hold: nothing was billed. Once settled, a call stays settled."""
        self.carry_out(self.release_command(_id_of(reservation)))

    async def arelease(self, reservation: Reservation | str) -> None:
        await self.acarry_out(self.release_command(_id_of(reservation)))

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
        return answers.decision(run(self._deciding(call), self._backend))

    async def acheck(self, **call: Unpack[CallArgs]) -> Decision:
        return answers.decision(await arun(self._deciding(call), self._backend))

    def allow(self, **call: Unpack[CallArgs]) -> Decision:
        """Decide and book in one step: `if guard.allow(amount=3, unit="credits", user="u1"): ...`"""
        return answers.decision(run(self._reserving(self._planner.draft(read_request(call), book=True)), self._backend))

    async def aallow(self, **call: Unpack[CallArgs]) -> Decision:
        draft = self._planner.draft(read_request(call), book=True)
        return answers.decision(await arun(self._reserving(draft), self._backend))

    # looking

    def status(self, **identity: Unpack[IdentityArgs]) -> Status:
        """Every cap that applies to an identity, and where it stands."""
        overview = self._planner.overview(only_identity(identity), self._clock())
        return answers.status(overview, self.carry_out(Look(overview.legs)))

    async def astatus(self, **identity: Unpack[IdentityArgs]) -> Status:
        overview = self._planner.overview(only_identity(identity), self._clock())
        return answers.status(overview, await self.acarry_out(Look(overview.legs)))

    def entries(
        self, *, user: str | None = None, since: datetime | None = None, until: datetime | None = None, after: int = 0
    ) -> Iterator[Entry]:
        """The journal, oldest first: of one user, within [since, until), after an entry's number."""
        return self._pages(answers.first_page(user, since, until, after))

    def _pages(self, first: Journal) -> Iterator[Entry]:
        page: Journal | None = first
        while page is not None:
            lines = answers.lines(self.carry_out(page))
            yield from map(answers.entry, lines)
            page = answers.next_page(page, lines)

    def aentries(
        self, *, user: str | None = None, since: datetime | None = None, until: datetime | None = None, after: int = 0
    ) -> AsyncIterator[Entry]:
        """As `entries`."""
        return self._apages(answers.first_page(user, since, until, after))

    async def _apages(self, first: Journal) -> AsyncIterator[Entry]:
        page: Journal | None = first
        while page is not None:
            lines = answers.lines(await self.acarry_out(page))
            for line in lines:
                yield answers.entry(line)
            page = answers.next_page(page, lines)

    def verify(self) -> Verification:
        """Rebuild every meter from the journal and compare: no differences, or where they are."""
        return answers.verification(self.carry_out(Verify()))

    async def averify(self) -> Verification:
        return answers.verification(await self.acarry_out(Verify()))

    # ending

    def flush(self) -> None:
        """Wait until everything that was said is booked. Every verb books before it returns, so nothing is left."""

    async def aflush(self) -> None:
        """As `flush`."""

    def close(self) -> None:
        """Give back the backend's connections. Holds stay in the ledger until their time is over."""
        self._backend.close()

    async def aclose(self) -> None:
        self.close()

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Guard:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    # for Call and the adapters

    def hold(self, request: Request) -> tuple[Reservation, Booking]:
        """Reserve a request that was read already."""
        draft = self._planner.draft(request)
        return self._told(draft, run(self._reserving(draft), self._backend))

    async def ahold(self, request: Request) -> tuple[Reservation, Booking]:
        """As `hold`, without blocking the event loop. Cancelled, it drops a hold that the caller never learns of."""
        draft = self._planner.draft(request)
        try:
            return self._told(draft, await arun(self._reserving(draft), self._backend))
        except asyncio.CancelledError:
            await self._drop(request.id)
            raise

    async def _drop(self, id: str) -> None:
        try:
            await self._backend.aexecute(self.release_command(id))
        except BackendUnavailable as error:
            log.warning("capguard: the hold of %s, whose call was cancelled, remains until it expires: %s", id, error)

    def carry_out(self, command: Command) -> Outcome:
        """One command, one outcome."""
        return self._backend.execute(command)

    async def acarry_out(self, command: Command) -> Outcome:
        """As `carry_out`, without blocking the event loop."""
        return await self._backend.aexecute(command)

    def tariff(self, model: str | None, plan: str | None) -> Tariff:
        """By what a call of `model` on `plan` is counted."""
        return self._planner.tariffs.of(model, plan)

    @staticmethod
    def release_command(id: str) -> Release:
        return Release(checked_id(id), RETENTION_MS)

    def taken_over(
        self, request: Request, asked: Request, reservation: Reservation, booking: Booking
    ) -> tuple[Reservation, Booking]:
        """An outer layer's reservation as the inner layer sees it: booked at the inner model's rates."""
        return self._planner.taken_over(request, asked, reservation, booking)

    @staticmethod
    def _told(draft: Draft, outcome: Outcome) -> tuple[Reservation, Booking]:
        """The reservation, with a log line for what its caps said."""
        reservation, booking = answers.held(draft, outcome)
        if reservation.decision.passed:
            notices.tell(reservation.id, reservation.decision)
        if draft.route.unknown_plan is not None:
            notices.unknown_plan(draft.route.unknown_plan, draft.route.identity.plan)
        return reservation, booking

    def _reserving(self, draft: Draft) -> Flow[Outcome]:
        return reserving(lambda now_ms: draft.command(self._clock() if now_ms is None else now_ms))

    def _deciding(self, call: CallArgs) -> Flow[Outcome]:
        draft = self._planner.draft(read_request(call))
        return reserving(lambda now_ms: draft.command(self._clock() if now_ms is None else now_ms), check_only=True)

    def _settling(
        self, reservation: Reservation | str, response: Any, usage: Usage | None, cost: object
    ) -> Flow[Outcome]:
        booking = answers.booking_of(reservation) if isinstance(reservation, Reservation) else None
        if booking is None:
            found = yield Fetch(_id_of(reservation))
            if not isinstance(found, Found):
                return found
            booking = Booking.of(found.record)
        return (yield booking.at(response, usage, cost, self._planner.tariffs.of))


def _id_of(reservation: Reservation | str) -> str:
    return reservation.id if isinstance(reservation, Reservation) else checked_id(reservation)
