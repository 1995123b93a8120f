"""One call to a model: reserved when its block is entered, booked when it is left or when its stream ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, overload

from capguard.arguments import OUTPUT_LIMITS
from capguard.booking import Booking
from capguard.detached import finished
from capguard.dropped import outside_the_collector
from capguard.errors import CapguardError
from capguard.identity import enter_call, leave_call, open_call
from capguard.ledger.commands import Extend, Release, Settle
from capguard.ledger.money import NANO
from capguard.ledger.outcomes import Outcome, Settled, Unknown
from capguard.pricing.stream import StreamReader
from capguard.results import Reservation
from capguard.streammeter import Lease, OnExceeded, StreamMeter
from capguard.streams import AsyncStream, SyncStream
from capguard.unbilled import is_unbilled
from capguard.watch import watching

if TYPE_CHECKING:
    from datetime import datetime
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
    An adapter whose host disguises the provider's errors gives a judge of its own, `unbilled`.
    """

    def __init__(self, guard: Reserving, request: Request, *, unbilled: Callable[[BaseException], bool] = is_unbilled):
        self.reservation: Reservation | None = None
        self.outer: Call | None = None
        self.closed = False
        self._guard = guard
        self._request = request
        self._is_unbilled = unbilled
        self._booking: Booking | None = None
        self._ending: Settle | Release | None = None
        self._reader: StreamReader | None = None
        self._meter: StreamMeter | None = None
        self._since_ms = 0
        self._watch = watching()
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
    def stream(self, source: AsyncIterable[Any], *, on_exceeded: OnExceeded = ...) -> AsyncStream: ...
    @overload
    def stream(self, source: Iterable[Any], *, on_exceeded: OnExceeded = ...) -> SyncStream: ...
    def stream(self, source: Any, *, on_exceeded: OnExceeded = "finish") -> Any:
        """Meter a stream of the provider as it passes, sync or async. It may outlive the block.

        It is booked when it ends, fails, is closed or is dropped: by the usage that it reported, else by its input and
        the output that passed. A stream that uses up its hold asks for more; where that is refused it goes on and its
        overrun is booked (`finish`), or it ends once the hold is used up (`cut`), and the entry is flagged `cut`.
        """
        metered = self.metered_async if hasattr(source, "__aiter__") else self.metered_sync
        return metered(source, on_exceeded=on_exceeded)

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
        outside_the_collector(lambda: self._book(self._end(error)))

    async def afinish(self, error: BaseException | None = None) -> None:
        """As `finish`, without blocking the event loop."""
        await self._abook(self._end(error))

    def finish_stream(self, error: BaseException | None = None, *, whole: bool) -> None:
        """Book a stream by what passed of it, once, whoever says first that it has ended."""
        outside_the_collector(lambda: self._book(self._end_of_stream(error, whole=whole)))

    async def afinish_stream(self, error: BaseException | None = None, *, whole: bool) -> None:
        """As `finish_stream`, without blocking the event loop."""
        await self._abook(self._end_of_stream(error, whole=whole))

    def metered_sync(
        self, source: Iterable[Any], *, inside: bool = False, on_exceeded: OnExceeded = "finish"
    ) -> SyncStream:
        """As `stream`; with `inside`, the source's own code runs with this call as `current_call()`."""
        return SyncStream(self, source, self.read_along(inside=inside, on_exceeded=on_exceeded), inside=inside)

    def metered_async(
        self, source: AsyncIterable[Any], *, inside: bool = False, on_exceeded: OnExceeded = "finish"
    ) -> AsyncStream:
        """As `metered_sync`, for an async source."""
        return AsyncStream(self, source, self.read_along(inside=inside, on_exceeded=on_exceeded), inside=inside)

    def read_along(self, *, inside: bool = False, on_exceeded: OnExceeded = "finish") -> StreamReader:
        """The reader of a stream that the adapter feeds by itself; `stream_ended` then says that it is whole."""
        held = self._held()
        assert self._booking is not None
        if self._reader is not None:
            log.error("capguard: %s has a stream already; a second stream needs a call of its own", self.id)
            return self._reader
        bounded = any(name in held.params for name in OUTPUT_LIMITS)
        lease = Lease(int(held.held * NANO), self._since_ms, _epoch_ms(held.expires_at), bounded)
        self._meter = StreamMeter(self._booking, lease, self._guard.tariff, on_exceeded)
        self._reader, self._inside = self._meter.reader, inside
        if self._watch is not None:
            self._watch.opened(self)
        return self._reader

    def passed(self) -> bool:
        """After each chunk of a stream: ask for what its hold lacks. False once the stream has to end."""
        if (asked := self._asks()) is not None:
            outcome = None
            with self._kept_from_the_reply(asked):
                outcome = self._guard.carry_out(asked)
            self._answered(asked, outcome)
        return self._meter is None or self._meter.goes_on

    async def apassed(self) -> bool:
        """As `passed`, without blocking the event loop."""
        if (asked := self._asks()) is not None:
            outcome = None
            with self._kept_from_the_reply(asked):
                outcome = await self._guard.acarry_out(asked)
            self._answered(asked, outcome)
        return self._meter is None or self._meter.goes_on

    def _end_of_stream(self, error: BaseException | None, *, whole: bool) -> Settle | Release | None:
        """What books this call, now that its stream has ended: once, whoever asks first."""
        if self.closed or self._booking is None or self._reader is None:
            return None
        self.closed = True
        if self.recorded:
            return self._ending
        if error is not None and not _began(self._reader) and self._is_unbilled(error):
            return self._guard.release_command(self._booking.id)
        flags = self._meter.flags if self._meter is not None else ()
        return self._booking.at_seen(self._reader, self._guard.tariff, *flags, *(() if whole else ("uncertain",)))

    def _book(self, ending: Settle | Release | None) -> None:
        """Carry out what ends this call, if anything does."""
        if ending is not None:
            with self._kept_from_the_reply(ending):
                self._booked(ending, self._guard.carry_out(ending))

    async def _abook(self, ending: Settle | Release | None) -> None:
        """As `_book`, without blocking the event loop. Whoever is cancelled while it waits is not the booking's end."""
        if ending is not None:
            await finished(self._abooked(ending))

    async def _abooked(self, ending: Settle | Release) -> None:
        with self._kept_from_the_reply(ending):
            self._booked(ending, await self._guard.acarry_out(ending))

    def _booked(self, ending: Settle | Release, outcome: Outcome) -> None:
        _tell(ending, outcome)
        if self._watch is not None:
            self._watch.booked(outcome)

    def stream_ended(self) -> None:
        """Record what was read along: the stream came to its end."""
        assert self._reader is not None
        assert self._booking is not None
        self._ending = self._booking.at_seen(self._reader, self._guard.tariff)

    def _held(self) -> Reservation:
        if self.reservation is None:
            raise RuntimeError("this call is not reserved yet: enter it with `with` or `async with`")
        return self.reservation

    def _hold(self, reservation: Reservation, booking: Booking) -> None:
        self.reservation, self._booking = reservation, booking
        self._since_ms = self._guard.now_ms()

    def _resumed(self) -> bool:
        was, self._going_on = self._going_on, False
        if self.reservation is not None and not was:
            raise RuntimeError("a call can be entered once; make another one with guard.call(...)")
        return was

    def _asks(self) -> Extend | None:
        return None if self._meter is None or self.closed else self._meter.asks(self._guard.now_ms())

    def _answered(self, asked: Extend, outcome: Outcome | None) -> None:
        assert self._meter is not None
        self._meter.answered(asked, outcome)
        if not self._meter.goes_on:
            log.warning("capguard: the stream of %s has used up its hold and may not have more: it ends here", self.id)

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
            return None if open_ended else self._end_of_stream(error, whole=False)
        self.closed = True
        if self.recorded:
            return self._ending
        if error is not None and self._is_unbilled(error):
            return self._guard.release_command(self._booking.id)
        return self._booking.at_expected()

    @contextmanager
    def _kept_from_the_reply(self, command: Settle | Release | Extend) -> Iterator[None]:
        """A reply of the provider is never turned into an exception: the hold remains, and its expiry books it."""
        try:
            yield
        except CapguardError as error:
            verb = type(command).__name__.lower()
            log.error("capguard: the %s of %s was not acknowledged: %s", verb, command.id, error)


def _epoch_ms(instant: datetime | None) -> int:
    return 0 if instant is None else int(instant.timestamp() * 1000)


def _began(reader: StreamReader) -> bool:
    return reader.usage is not None or bool(reader.text)


def _tell(ending: Settle | Release, outcome: Outcome) -> None:
    """Log a booking that changed nothing: the caller of a block sees no outcome."""
    if isinstance(outcome, Settled) and outcome.conflict:
        log.warning("capguard: %s was settled before with other amounts, which stand", ending.id)
    elif isinstance(outcome, Unknown):
        kept = f", and kept as entry {outcome.entry}, a dead letter" if outcome.entry else ""
        log.error("capguard: no reservation %s is remembered any more; its cost is not booked%s", ending.id, kept)
