"""`python -m benchmarks.asgi_overhead`: requests per second, p50 and p99 of a small route, with the middleware and not.

Every variant is a uvicorn process of its own; they are asked in turns, so that a noisy machine disturbs all alike.
Redis and slowapi have rows where they are installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from capguard import Guard
from capguard.integrations.asgi import CapguardMiddleware

POLICY = {
    "caps": [
        {"id": "monthly", "limit": 1_000_000},
        {"id": "weekly", "limit": 1_000_000, "window": "weekly"},
        {"id": "company", "limit": 5_000_000, "per": [], "window": "daily"},
    ]
}
ROUNDS, REQUESTS, CONNECTIONS = 9, 400, 8
ASK = b"GET / HTTP/1.1\r\nhost: x\r\nx-user: u%d\r\n\r\n"


async def hello(request: Request) -> JSONResponse:  # noqa: ARG001
    return JSONResponse({"hello": "world"})


def user(scope: Any) -> dict[str, str]:
    return {"user": dict(scope["headers"])[b"x-user"].decode()}


def bare(_: str) -> Any:
    return Starlette(routes=[Route("/", hello)])


def capped(**options: Any) -> Callable[[str], Any]:
    def make(url: str) -> Any:
        return CapguardMiddleware(bare(url), Guard(url, policy=POLICY), identify=user, **options)

    return make


def spending(url: str) -> Any:
    """A route that makes one call, at a known cost: precheck, reserve and settle."""
    guard = Guard(url, policy=POLICY)

    async def spend(request: Request) -> JSONResponse:
        async with guard.call(cost="0.0001") as call:
            call.settle(cost="0.0001")
        return await hello(request)

    return CapguardMiddleware(Starlette(routes=[Route("/", spend)]), guard, identify=user)


def slow_api(_: str) -> Any:
    from slowapi import Limiter
    from slowapi.util import get_remote_address

    limiter = Limiter(key_func=get_remote_address)
    app = Starlette(routes=[Route("/", limiter.limit("1000000/minute")(hello))])
    app.state.limiter = limiter
    return app


VARIANTS: dict[str, tuple[Callable[[str], Any], str]] = {
    "without": (bare, ""),
    "identity and answers only": (capped(precheck=False), "memory://"),
    "precheck, memory": (capped(), "memory://"),
    "precheck, SQLite": (capped(), "sqlite"),
    "precheck, Redis": (capped(), "redis"),
    "precheck + headers, memory": (capped(headers=True), "memory://"),
    "precheck + a call, memory": (spending, "memory://"),
    "precheck + a call, SQLite": (spending, "sqlite"),
    "precheck + a call, Redis": (spending, "redis"),
    "slowapi, memory": (slow_api, ""),
}


def serve(name: str, port: int, url: str) -> None:
    make, _ = VARIANTS[name]
    uvicorn.run(make(url), port=port, log_level="critical")


def main() -> None:
    if len(sys.argv) == 4:
        serve(sys.argv[1], int(sys.argv[2]), sys.argv[3])
        return
    with ExitStack() as stack:
        ports = {name: port for name in VARIANTS if (port := started(stack, name)) is not None}
        rounds: dict[str, list[list[float]]] = {name: [] for name in ports}
        for turn in range(ROUNDS + 1):
            for name, port in ports.items():
                took = asyncio.run(ask(port))
                if turn:  # the first round warms up
                    rounds[name].append(took)
    report(rounds)


def report(rounds: dict[str, list[list[float]]]) -> None:
    """Medians over the rounds; what it costs beside `without` is the median of the differences of p50 within each."""
    print(f"{'':28} {'requests/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'added at p50, us':>18}")
    bare_rounds = rounds["without"]
    for name, each in rounds.items():
        rate = statistics.median(CONNECTIONS * len(took) / sum(took) for took in each)
        p50 = [statistics.median(took) for took in each]
        p99 = [sorted(took)[int(len(took) * 0.99)] for took in each]
        added = [mine - statistics.median(theirs) for mine, theirs in zip(p50, bare_rounds, strict=True)]
        shown = (rate, statistics.median(p50) * 1e3, statistics.median(p99) * 1e3, statistics.median(added) * 1e6)
        print("{:28} {:>10.0f} {:>8.2f} {:>8.2f} {:>18.0f}".format(name, *shown))


async def ask(port: int) -> list[float]:
    """Seconds of every request, from several connections at once."""
    each = await asyncio.gather(*(talk(port, number) for number in range(CONNECTIONS)))
    return list(itertools.chain.from_iterable(each))


async def talk(port: int, number: int) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    took = []
    for _ in range(REQUESTS // CONNECTIONS):
        begun = time.perf_counter()
        writer.write(ASK % number)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
        assert b" 200 " in head, head
        took.append(time.perf_counter() - begun)
    writer.close()
    await writer.wait_closed()
    return took


def started(stack: ExitStack, name: str) -> int | None:
    """The port of a variant that runs; None, and a line that says so, where something that it needs is missing."""
    url = VARIANTS[name][1]
    if url == "sqlite":
        url = f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/ledger.db"
    if url == "redis":
        if not redis_works():
            print(f"{name}: left out, this version has no Redis backend or there is no redis-server")
            return None
        url = stack.enter_context(redis())
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.asgi_overhead", name, str(port), url])
    stack.callback(process.wait)
    stack.callback(process.terminate)
    for _ in range(600):
        if process.poll() is not None:
            print(f"{name}: left out, it did not start")
            return None
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return port
        time.sleep(0.05)
    raise RuntimeError(f"{name} did not start within 30 s")


def redis_works() -> bool:
    try:
        import capguard.backends.redis  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        return False
    return shutil.which("redis-server") is not None


@contextlib.contextmanager
def redis() -> Iterator[str]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            ["redis-server", "--port", str(port), "--dir", folder, "--save", ""], stdout=subprocess.DEVNULL
        )
        time.sleep(1)
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


if __name__ == "__main__":
    main()
