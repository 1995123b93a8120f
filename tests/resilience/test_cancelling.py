"""Cancelled at any point, once, twice, or by a scope of anyio: no hold is left, and no cost is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from capguard import Guard
from capguard.testing.proxy import Proxy
from tests.backends.servers import Server
from tests.resilience.kit import Program, booked, meter, policy

PATIENT = policy(deadline=5)
SLOW_S = 0.15
"""How late the server's answers are, so that a cancel meets a step that is under way."""


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with server.client() as client:
        client.flushall()
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
async def guard(proxy: Proxy) -> AsyncIterator[Guard]:
    async with Guard(f"redis://127.0.0.1:{proxy.port}/0", policy=PATIENT) as guard:
        yield guard


async def once(work: Callable[[], Awaitable[object]], ready: asyncio.Event) -> None:
    task = asyncio.ensure_future(work())
    await ready.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def twice(work: Callable[[], Awaitable[object]], ready: asyncio.Event) -> None:
    task = asyncio.ensure_future(work())
    await ready.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def by_a_scope(work: Callable[[], Awaitable[object]], ready: asyncio.Event) -> None:
    """As Starlette cancels an endpoint whose client has gone: every await in it raises from then on."""
    async with anyio.create_task_group() as group:

        async def run() -> None:
            await work()

        group.start_soon(run)
        await ready.wait()
        group.cancel_scope.cancel()


WAYS = [once, twice, by_a_scope]


async def settled(guard: Guard) -> tuple[Decimal, Decimal, Decimal]:
    """The meter, once whatever goes on in the background has come to its end."""
    for _ in range(100):
        await asyncio.sleep(0.05)
        state = (await guard.astatus(user="u1")).caps["c"]
        if not state.held:
            break
    return state.settled, state.held, state.overrun


def under_way(proxy: Proxy, on: bytes) -> asyncio.Event:
    """Set while the step that says `on` is at the server; its answer is late."""
    ready = asyncio.Event()
    proxy.fail("delay", on=on, seconds=SLOW_S)

    async def wait() -> None:
        while not proxy.happened:
            await asyncio.sleep(0.005)
        ready.set()

    ready.task = asyncio.ensure_future(wait())  # type: ignore[attr-defined]
    return ready


@pytest.mark.parametrize("cancel", WAYS)
async def test_a_reserve_that_is_cancelled(guard: Guard, proxy: Proxy, cancel: Any) -> None:
    """It was sent, and nobody will hear of it: it is released by a task of its own."""
    ready = under_way(proxy, b"mine")
    await cancel(lambda: guard.areserve(user="u1", cost="0.5", id="mine"), ready)
    assert await settled(guard) == (0, 0, 0)


@pytest.mark.parametrize("cancel", WAYS)
async def test_a_settle_that_is_cancelled(guard: Guard, proxy: Proxy, cancel: Any) -> None:
    await guard.areserve(user="u1", cost="0.5", id="mine")
    ready = under_way(proxy, b"mine")
    await cancel(lambda: guard.asettle("mine", cost="0.4"), ready)
    assert await settled(guard) == (Decimal("0.4"), 0, 0)


@pytest.mark.parametrize("cancel", WAYS)
async def test_a_release_that_is_cancelled(guard: Guard, proxy: Proxy, cancel: Any) -> None:
    await guard.areserve(user="u1", cost="0.5", id="mine")
    ready = under_way(proxy, b"mine")
    await cancel(lambda: guard.arelease("mine"), ready)
    assert await settled(guard) == (0, 0, 0)


@pytest.mark.parametrize("cancel", WAYS)
async def test_a_block_that_is_cancelled_while_it_books(guard: Guard, proxy: Proxy, cancel: Any) -> None:
    """The reply was there and recorded."""

    async def work() -> None:
        async with guard.call(user="u1", cost="0.5", id="mine") as call:
            call.settle(cost="0.4")
            proxy.fail("delay", on=b"mine", seconds=SLOW_S)

    ready = asyncio.Event()

    async def wait() -> None:
        while not proxy.happened:
            await asyncio.sleep(0.005)
        ready.set()

    waiting = asyncio.ensure_future(wait())
    await cancel(work, ready)
    await waiting
    assert await settled(guard) == (Decimal("0.4"), 0, 0)


@pytest.mark.parametrize("cancel", WAYS)
async def test_a_call_that_is_cancelled_at_the_provider(guard: Guard, cancel: Any) -> None:
    """Whether it was billed is not known: it is booked at what was expected, and flagged."""
    ready = asyncio.Event()

    async def work() -> None:
        async with guard.call(user="u1", cost="0.5"):
            ready.set()
            await asyncio.sleep(30)

    await cancel(work, ready)
    assert await settled(guard) == (Decimal("0.5"), 0, 0)
    (entry,) = [entry async for entry in guard.aentries() if entry.kind == "settle"]
    assert "uncertain" in entry.flags


@pytest.mark.parametrize("cancel", WAYS)
async def test_a_stream_that_is_cancelled(guard: Guard, cancel: Any) -> None:
    """What was seen of it is booked, without waiting for a garbage collection."""
    ready = asyncio.Event()

    async def source() -> AsyncIterator[dict[str, Any]]:
        yield {"choices": [{"delta": {"content": "word " * 50}}]}
        ready.set()
        await asyncio.sleep(30)
        yield {}

    async def work() -> None:
        async with guard.call(user="u1", model="gpt-4o", prompt="x", max_tokens=500) as call:
            async for _ in call.stream(source()):
                pass

    await cancel(work, ready)
    spent, held, _ = await settled(guard)
    assert held == 0
    assert 0 < spent < Decimal("0.005")


async def test_many_cancels_at_random(guard: Guard) -> None:
    """Fifty calls, each cancelled somewhere: nothing is held afterwards, and the books are right."""

    async def work(number: int) -> None:
        async with guard.call(user="u1", cost="0.5") as call:
            await asyncio.sleep(0.001 * (number % 7))
            call.settle(cost="0.4")

    tasks = [asyncio.ensure_future(work(number)) for number in range(50)]
    for number, task in enumerate(tasks):
        await asyncio.sleep(0.0005 * (number % 3))
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    _, held, overrun = await settled(guard)
    assert (held, overrun) == (0, 0)
    assert await guard.averify()


LOOP_ENDS = """
import asyncio
from capguard import Guard
from tests.resilience.kit import policy

async def main():
    guard = Guard(args[0], policy=policy(deadline=60))
    await guard.areserve(user="u1", cost="0.5", id="mine")
    print("held", flush=True)
    await asyncio.to_thread(input)
    asyncio.ensure_future(guard.asettle("mine", cost="0.4"))
    await asyncio.sleep(0.3)

asyncio.run(main())
"""


def test_an_event_loop_that_ends_in_a_settle(own: Server, tmp_path: Path) -> None:
    """`asyncio.run` cancels what is left, the settle's own task too: it is on disk, and the next process books it."""
    with Proxy(own.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        with Program(LOOP_ENDS, url) as program:
            assert program.says() == "held"
            proxy.fail("black hole", times=1000)
            program.goes_on()
            program.ends()
        proxy.heal()
        with Guard(url, policy=policy()) as guard:
            for _ in range(100):
                if booked(guard):
                    break
                guard.flush(0.1)
                asyncio.run(asyncio.sleep(0.05))
            assert booked(guard) == {"mine": Decimal("0.4")}
            assert meter(guard) == (Decimal("0.4"), 0, 0)
