"""One call to a model: reserved when its block is entered, booked when it is left or when its stream ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, overload

from capguard.booking import Booking
from capguard.errors import CapguardError
from capguard.identity import enter_call, leave_call, open_call
from capguard.ledger.commands import Release, Settle
from capguard.ledger.outcomes import Outcome, Settled, Unknown
from capguard.pricing.stream import StreamReader
from capguard.results import Reservation
from capguard.streams import AsyncStream, SyncStream
from capguard.unbilled import is_unbilled

if TYPE_CHECKING:
    from types import TracebackType

    from capguard.arguments import Request
    from capguard.pricing.usage import Usage
    from capguard.reserving import Reserving

log = logging.getLogger("capguard")


class Call:
    """A call between its reserve and its settle. Made by `Guard.call`, entered with `with` or `async with`.

    Entering reserves and raises `CapExceeded`, `BackendUnavailable`, `IdentityMissing`, `UnknownModel`,
    `IdempotencyMismatch`. Leaving books what `settle` recorded. Without it, a call that is known to be unbilled is
    released (no connection, an error status from the provider, `release()`); anything else is booked at its expected
    cost, flagged `uncertain`. Leaving never raises for a ledger that is away: the hold remains, `on_expiry` books it.

    A call entered inside another open call of the same Guard takes over its reservation, so that layers charge once.
    """

    def __init__(self, guard: Reserving, request: Request):
        self.reservation: Reservation | None = None
        self.outer: Call | None = None
        self.closed = False
        self._guard = guard
        self._request = request
        self._booking: Booking | None = None
        self._ending: Settle | Release | None = None
        self._reader: StreamReader | None = None
        self._inside = False
        self._given_away = threading.Lock()  # taken once, by the inner layer that charges this call
        self._going_on = False

    @property
    def params(self) -> dict[str, Any]:
        """What to pass to the provider: `model`, and the output limit under the name that the caller used for it."""
        return dict(self._held().params)

    @property
    def model(self) -> str | None:
        """The model that serves: the one asked for, or the cheaper one that a downgrade chose."""
        return self._held().model

    @property
    def id(self) -> str:
        """The id of the reservation."""
        return self._held().id

    def settle(self, response: Any = None, *, usage: Usage | None = None, cost: object = None) -> None:
        """Record what the call cost: a response of the provider, a `usage`, or a `cost` in dollars.

        Leaving the block books it. The last record counts. Raises ValueError for a cost that is not a finite number of
        0 or more.
        """
        self._held()
        assert self._booking is not None
        if self.closed:
            log.error("capguard: %s is booked already; this settle came too late and changes nothing", self.id)
        self._ending = self._booking.at(response, usage, cost, self._guard.tariff)

    def release(self) -> None:
        """Say that nothing was billed: leaving the block drops the hold."""
        self._ending = self._guard.release_command(self._held().id)

    @overload
    def stream(self, source: AsyncIterable[Any]) -> AsyncStream: ...
    @overload
    def stream(self, source: Iterable[Any]) -> SyncStream: ...
    def stream(self, source: Any) -> Any:
        """Meter a stream of the provider as it passes, sync or async. It may outlive the block.

        It is booked when it ends, fails, is closed or is dropped: by the usage that it reported, else by its input and
        the output that passed.
        """
        return self.metered_async(source) if hasattr(source, "__aiter__") else self.metered_sync(source)

    def __enter__(self) -> Call:
        self.begin()
        enter_call(self)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        leave_call(self)
        self.finish(error)

    async def __aenter__(self) -> Call:
        await self.abegin()
        enter_call(self)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        leave_call(self)
        await self.afinish(error)

    # for the adapters: what only they see, and the two ends without the context

    def answered_from_cache(self) -> None:
        """Say that the host answered from a cache of its own: nothing counts, and the entry is flagged `cache_hit`."""
        self._held()
        assert self._booking is not None
        self._ending = self._booking.at_nothing("cache_hit")

    @property
    def reading(self) -> bool:
        """Whether a reply has begun to pass."""
        return self._reader is not None

    def reader(self) -> StreamReader:
        """What an adapter feeds the pieces of a reply to, where it sees them pass and does not hold the stream."""
        return self._reader or self._read(inside=False)

    def finish_seen(self, error: BaseException | None = None, *, whole: bool = True) -> None:
        """As `finish`, by what was fed to `reader()`: the usage it tells, else the input and the output, counted."""
        self.book(self.end_stream(error, whole=whole))

    async def afinish_seen(self, error: BaseException | None = None, *, whole: bool = True) -> None:
        """As `finish_seen`, without blocking the event loop."""
        await self.abook(self.end_stream(error, whole=whole))

    @property
    def recorded(self) -> bool:
        """Whether somebody has said already how this call is booked: `settle`, `release`, or an inner layer."""
        return self._ending is not None or self._given_away.locked()

    def go_on(self) -> None:
        """Leave the block without booking, to enter it again: the function returned something to be awaited."""
        self._going_on = True

    def begin(self) -> None:
        """Reserve, or take over the reservation of the open call around this one."""
        if self._resumed():
            return
        if not self._take_over():
            self._hold(*self._guard.hold(self._request))

    async def abegin(self) -> None:
        """As `begin`, without blocking the event loop."""
        if self._resumed():
            return
        if not self._take_over():
            self._hold(*await self._guard.ahold(self._request))

    def finish(self, error: BaseException | None = None) -> None:
        """Book or release, unless a stream or an inner layer will."""
        self.book(self._end(error))

    async def afinish(self, error: BaseException | None = None) -> None:
        """As `finish`, without blocking the event loop."""
        await self.abook(self._end(error))

    def metered_sync(self, source: Iterable[Any], *, inside: bool = False) -> SyncStream:
        """As `stream`; with `inside`, the source's own code runs with this call as `current_call()`."""
        return SyncStream(self, source, self._read(inside), inside=inside)

    def metered_async(self, source: AsyncIterable[Any], *, inside: bool = False) -> AsyncStream:
        """As `metered_sync`, for an async source."""
        return AsyncStream(self, source, self._read(inside), inside=inside)

    def end_stream(self, error: BaseException | None, *, whole: bool) -> Settle | Release | None:
        """What books this call, now that its stream has ended: once, whoever asks first."""
        if self.closed or self._booking is None or self._reader is None:
            return None
        self.closed = True
        if self.recorded:
            return self._ending
        if error is not None and not _began(self._reader) and is_unbilled(error):
            return self._guard.release_command(self._booking.id)
        return self._booking.at_seen(self._reader, self._guard.tariff, *(() if whole else ("uncertain",)))

    def book(self, ending: Settle | Release | None) -> None:
        """Carry out what ends this call, if anything does."""
        if ending is not None:
            with self._kept_from_the_reply(ending):
                _tell(ending, self._guard.carry_out(ending))

    async def abook(self, ending: Settle | Release | None) -> None:
        """As `book`, without blocking the event loop."""
        if ending is not None:
            with self._kept_from_the_reply(ending):
                _tell(ending, await self._guard.acarry_out(ending))

    def _held(self) -> Reservation:
        if self.reservation is None:
            raise RuntimeError("this call is not reserved yet: enter it with `with` or `async with`")
        return self.reservation

    def _hold(self, reservation: Reservation, booking: Booking) -> None:
        self.reservation, self._booking = reservation, booking

    def _resumed(self) -> bool:
        was, self._going_on = self._going_on, False
        if self.reservation is not None and not was:
            raise RuntimeError("a call can be entered once; make another one with guard.call(...)")
        return was

    def _read(self, inside: bool) -> StreamReader:
        self._held()
        if self._reader is not None:
            log.error("capguard: %s has a stream already; a second stream needs a call of its own", self.id)
            return self._reader
        reader = StreamReader()
        self._reader, self._inside = reader, inside
        return reader

    def _take_over(self) -> bool:
        """Let an open call around this one charge through this one. Its reservation stays, its settle moves here."""
        around = open_call()
        taken = around.give_to(self._guard, self._request) if around is not None else None
        if taken is not None:
            self._hold(*taken)
        return taken is not None

    def give_to(self, guard: Reserving, request: Request) -> tuple[Reservation, Booking] | None:
        """Let an inner layer charge this call, if it is reserved and nobody has begun to book it."""
        passing = self._reader is not None and (not self._inside or _began(self._reader))
        begun = self.closed or self.recorded or passing
        if guard is not self._guard or begun or self.reservation is None or self._booking is None:
            return None
        given = guard.taken_over(request, self._request, self.reservation, self._booking)
        return given if self._given_away.acquire(blocking=False) else None

    def _end(self, error: BaseException | None) -> Settle | Release | None:
        """What books this call as its block is left; None where a stream or an inner layer does."""
        if self.closed or self._booking is None or (self._going_on and error is None):
            return None
        if self._reader is not None:
            open_ended = error is None and self._ending is None
            return None if open_ended else self.end_stream(error, whole=False)
        self.closed = True
        if self.recorded:
            return self._ending
        if error is not None and is_unbilled(error):
            return self._guard.release_command(self._booking.id)
        return self._booking.at_expected()

    @contextmanager
    def _kept_from_the_reply(self, ending: Settle | Release) -> Iterator[None]:
        """A reply of the provider is never turned into an exception: the hold remains, and its expiry books it."""
        try:
            yield
        except CapguardError as error:
            verb = "settle" if isinstance(ending, Settle) else "release"
            log.error("capguard: the %s of %s was not acknowledged: %s", verb, ending.id, error)


def _began(reader: StreamReader) -> bool:
    return reader.usage is not None or bool(reader.text)


def _tell(ending: Settle | Release, outcome: Outcome) -> None:
    """Log a booking that changed nothing: the caller of a block sees no outcome."""
    if isinstance(outcome, Settled) and outcome.conflict:
        log.warning("capguard: %s was settled before with other amounts, which stand", ending.id)
    elif isinstance(outcome, Unknown):
        log.error("capguard: no reservation %s is remembered any more; its cost is not booked", ending.id)
