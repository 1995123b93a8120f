"""Charging a route by itself: for what is no call to a model, or for one that nothing meters."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from capguard.arguments import IdentityArgs
from capguard.default import default_guard
from capguard.guard import Guard
from capguard.ledger import units
from capguard.results import Reservation, Settlement
from capguard.watch import watching

F = TypeVar("F", bound=Callable[..., Any])


class charge:  # noqa: N801 - read as a statement: `await charge(cost="0.02")`
    """Charge the caller of this request a `cost` in dollars.

        @app.post("/render")
        @charge(cost="0.02")                   # held before the route runs, booked when it has answered
        async def render(): ...

        async with charge(cost="0.02"):        # or around a part of it; `with` in a sync route
            ...
        await charge(cost="0.02")              # or there and then

    A route that raises is charged nothing. Raises CapExceeded where it does not fit, ValueError for a cost that is no
    finite number of 0 or more. `guard` is that of the middleware, else the process's own; identity fields may be given.
    Model calls inside are charged for themselves.
    """

    def __init__(self, *, cost: object, guard: Guard | None = None, **who: Unpack[IdentityArgs]):
        units.parse("usd", cost, "cost")
        self._cost = cost
        self._who = who
        self._given = guard
        self._held: Reservation | None = None

    def __call__(self, function: F) -> F:
        """Around every call of `function`, sync or async."""
        made = functools.partial(charge, cost=self._cost, guard=self._given, **self._who)

        async def around_async(*args: Any, **kwargs: Any) -> Any:
            async with made():
                return await function(*args, **kwargs)

        def around(*args: Any, **kwargs: Any) -> Any:
            with made():
                return function(*args, **kwargs)

        wrapper = around_async if inspect.iscoroutinefunction(function) else around
        return functools.update_wrapper(wrapper, function)  # type: ignore[return-value]

    def __await__(self) -> Generator[Any, None, Settlement]:
        return self._now().__await__()

    def __enter__(self) -> Self:
        self._held = self._guard.reserve(cost=self._cost, **self._who)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: TracebackType | None) -> None:
        assert self._held is not None
        if error is None:
            self._guard.settle(self._held, cost=self._cost)
        else:
            self._guard.release(self._held)

    async def __aenter__(self) -> Self:
        self._held = await self._guard.areserve(cost=self._cost, **self._who)
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: TracebackType | None) -> None:
        assert self._held is not None
        if error is None:
            await self._guard.asettle(self._held, cost=self._cost)
        else:
            await self._guard.arelease(self._held)

    async def _now(self) -> Settlement:
        held = await self._guard.areserve(cost=self._cost, **self._who)
        return await self._guard.asettle(held, cost=self._cost)

    @property
    def _guard(self) -> Guard:
        watch = watching()
        return self._given or (watch.guard if watch is not None else None) or default_guard()
