"""Guard: the object that users hold. One-line shells, sync and async, over the same flows; only here outcomes raise."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from capguard import answers, notices
from capguard.acceptance import accepted
from capguard.admitting import Sizing
from capguard.arguments import CallArgs, IdentityArgs, Request, checked_id, only_identity, read_request
from capguard.backends.base import Backend, Clock, arun, run, system_clock
from capguard.backends.disabled import DisabledBackend, is_disabled
from capguard.booking import Booking
from capguard.call import Call
from capguard.disabled import without_refusals
from capguard.errors import BackendUnavailable, PolicyError
from capguard.events import Observer, Observers
from capguard.identity import Identity
from capguard.knowledge import Knowledge
from capguard.ledger.commands import (
    Command,
    Fetch,
    Journal,
    Look,
    PolicyInForce,
    Release,
    Reserve,
    Settle,
    Verify,
)
from capguard.ledger.flows import Aim, Flow, waiting
from capguard.ledger.outcomes import Denied, Found, Nothing, Outcome, Published, Revised, Stale, Superseded
from capguard.ledger.waiting import WaitingLine
from capguard.planner import RETENTION_MS, Draft
from capguard.plugins.manager import open_backend, open_prices, plugged_observers
from capguard.policy.load import load_policy
from capguard.pricing.tokens import warm_up
from capguard.results import Decision, Entry, Reservation, Settlement, Status, Verification
from capguard.review import Review
from capguard.shelf import Shelf
from capguard.steering import PolicySource, Steering, publication

if TYPE_CHECKING:
    from capguard.policy.document import Policy
    from capguard.pricing.sources import PriceSource
    from capguard.pricing.tariff import Tariff
    from capguard.pricing.usage import Usage

log = logging.getLogger("capguard")
T = TypeVar("T")


class Guard(Steering, Review):
    """A ledger and the policy that holds for it.

    `url` names the backend: `sqlite:///capguard.db` or `memory://`. `policy` is a path to TOML, YAML or JSON, a dict,
    or a `Policy`. `namespace` keeps products apart in one backend. `clock` gives milliseconds since the epoch; the
    default is the system's. One Guard serves many threads and event loops. With `CAPGUARD_DISABLED=1` every call
    passes, loudly.

    `prices` names a price list that is laid over the bundled one: `litellm` for the installed one's, a file, or what a
    plugin knows; it may change at any time. `warm` loads the vocabularies now rather than at the first calls.

    With `policy`, that is the truth for this process. Without it the backend holds the policy: `publish` changes it for
    everybody, `initial_policy` publishes the first. Overrides, grants and assigned plans always live in the backend.

    Raises PolicyError for a policy that is refused or nowhere to be found, ValueError for a URL that no backend serves.
    """

    def __init__(
        self,
        url: str,
        *,
        policy: PolicySource | None = None,
        initial_policy: PolicySource | None = None,
        namespace: str = "default",
        clock: Clock | None = None,
        prices: PriceSource | str | None = None,
        warm: bool = False,
    ):
        self._clock = clock or system_clock
        self._shelf = Shelf(open_prices(prices))
        own = None if policy is None else accepted(policy)
        self._backend: Backend
        if is_disabled():
            self._backend = DisabledBackend(self._clock)
            lenient = without_refusals(own or accepted(initial_policy or {}))
            self._knowledge = Knowledge(lenient, None if own is not None else 0, self._shelf)
        else:
            self._backend = open_backend(url, namespace=namespace, clock=self._clock)
            self._knowledge = self._published(initial_policy) if own is None else Knowledge(own, None, self._shelf)
        self._line = WaitingLine()
        self._observers = Observers(plugged_observers())
        self._shelf.watch()
        if warm:
            warm_up()

    @classmethod
    def from_env(cls) -> Guard:
        """A Guard from CAPGUARD_URL (default `sqlite:///capguard.db`), CAPGUARD_POLICY, a path, and CAPGUARD_PRICES.

        Without CAPGUARD_POLICY the published policy of the backend holds.
        """
        path = os.environ.get("CAPGUARD_POLICY") or None
        prices = os.environ.get("CAPGUARD_PRICES") or None
        return cls(os.environ.get("CAPGUARD_URL") or "sqlite:///capguard.db", policy=path, prices=prices)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._backend.url!r})"

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._knowledge.planner.policy

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
        return answers.settlement(self._run(self._settling(reservation, response, usage, cost)))

    async def asettle(
        self, reservation: Reservation | str, response: Any = None, *, usage: Usage | None = None, cost: object = None
    ) -> Settlement:
        return answers.settlement(await self._arun(self._settling(reservation, response, usage, cost)))

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
        return answers.decision(self._run(self._reserving(read_request(call), check_only=True))[1])

    async def acheck(self, **call: Unpack[CallArgs]) -> Decision:
        return answers.decision((await self._arun(self._reserving(read_request(call), check_only=True)))[1])

    def allow(self, **call: Unpack[CallArgs]) -> Decision:
        """Decide and book in one step: `if guard.allow(amount=3, unit="credits", user="u1"): ...`"""
        return self._decided(*self._run(self._reserving(read_request(call), book=True)))

    async def aallow(self, **call: Unpack[CallArgs]) -> Decision:
        return self._decided(*await self._arun(self._reserving(read_request(call), book=True)))

    # looking

    def status(self, **identity: Unpack[IdentityArgs]) -> Status:
        """Every cap that applies to an identity, and where it stands."""
        return self._run(self._looking(only_identity(identity)))

    async def astatus(self, **identity: Unpack[IdentityArgs]) -> Status:
        return await self._arun(self._looking(only_identity(identity)))

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

    def on(self, event: str, observer: Observer) -> None:
        """Tell `observer` of every event of this name, `*` for all: `guard.on("denied", print)`.

        It runs after the fact, in the thread of the call. One that fails is logged and counted, never felt by the call.
        Raises ValueError for a name that no event has.
        """
        self._observers.on(event, observer)

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
        waits = not _in_event_loop()  # a throttle cap must not stop the loop that it is asked in
        return self._told(*self._run(self._reserving(request, waits=waits)))

    async def ahold(self, request: Request) -> tuple[Reservation, Booking]:
        """As `hold`, without blocking the event loop. Cancelled, it drops a hold that the caller never learns of."""
        try:
            return self._told(*await self._arun(self._reserving(request, waits=True)))
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
        outcome = self._backend.execute(command)
        self._tell_booking(command, outcome)
        return outcome

    async def acarry_out(self, command: Command) -> Outcome:
        """As `carry_out`, without blocking the event loop."""
        outcome = await self._backend.aexecute(command)
        self._tell_booking(command, outcome)
        return outcome

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

    def _decided(self, draft: Draft, outcome: Outcome) -> Decision:
        """The decision of an allow, once everybody was told."""
        self._tell_reserve(draft, outcome)
        return answers.decision(outcome)

    def _tell_reserve(self, draft: Draft, outcome: Outcome) -> None:
        route = draft.route
        notices.tell(self._observers, notices.of_reserve(outcome, draft.request.id, route.named, route.unknown_plan))

    def _changed(self, kind: str, revised: Revised, user: str | None) -> None:
        notices.tell(self._observers, notices.of_change(kind, revised, user, self._clock()))

    def _tell_crossed(self, outcome: Outcome) -> None:
        notices.tell(self._observers, notices.of_crossings(outcome, self._clock()))

    def _tell_booking(self, command: Command, outcome: Outcome) -> None:
        self._tell_crossed(outcome)
        if isinstance(command, Settle):
            self._knowledge.learn_length(command, outcome)
            flags = command.facts.get("flags", ())
            notices.tell(self._observers, notices.of_settle(outcome, flags, self._clock()))

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

    def _run(self, flow: Flow[T]) -> T:
        return run(flow, self._backend, getattr(self._clock, "sleep", time.sleep))

    async def _arun(self, flow: Flow[T]) -> T:
        return await arun(flow, self._backend, getattr(self._clock, "asleep", asyncio.sleep))

    def _looking(self, identity: Identity) -> Flow[Status]:
        yield from self._learning(identity.user)
        overview = self._knowledge.overview(identity, self._clock())
        outcome = yield Look(overview.legs + overview.sources)
        self._tell_crossed(outcome)
        return answers.status(overview, outcome)

    def _published(self, initial: PolicySource | None) -> Knowledge:
        """The policy that the backend holds; where it holds none, `initial` is published as the first."""
        outcome = self._backend.execute(PolicyInForce())
        if initial is None and isinstance(self._backend, DisabledBackend):
            initial = {}
        if isinstance(outcome, Nothing) and initial is not None:
            outcome = self._backend.execute(publication(initial, base=0, why="initial policy"))
            if isinstance(outcome, Superseded):  # another process was first: its policy holds
                outcome = self._backend.execute(PolicyInForce())
        if not isinstance(outcome, Published):
            raise PolicyError(
                "no policy: pass policy= (a file, a dict or a Policy; {} has no caps and books all), or publish one:"
                " capguard policy push FILE, or initial_policy=; in the environment, CAPGUARD_POLICY names the file"
            )
        return Knowledge(load_policy(dict(outcome.policy.body)), outcome.policy.revision, self._shelf)

    def _settling(
        self, reservation: Reservation | str, response: Any, usage: Usage | None, cost: object
    ) -> Flow[Outcome]:
        booking = answers.booking_of(reservation) if isinstance(reservation, Reservation) else None
        if booking is None:
            found = yield Fetch(_id_of(reservation))
            if not isinstance(found, Found):
                return found
            booking = Booking.of(found.record)
        command = booking.at(response, usage, cost, self._knowledge.planner.tariffs.of)
        outcome = yield command
        self._tell_booking(command, outcome)
        return outcome


def _id_of(reservation: Reservation | str) -> str:
    return reservation.id if isinstance(reservation, Reservation) else checked_id(reservation)


def _in_event_loop() -> bool:
    """Whether this thread runs an event loop, which nothing synchronous may stop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
