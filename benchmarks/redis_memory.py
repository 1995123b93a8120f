"""`python -m benchmarks.redis_memory [users ...]`: what an active user and a remembered id take in Redis, at rest.

Each user has three caps, by the month, the week and the day, and has made one call, which was booked in one step. The
journal is history: it is measured by itself. Then calls of any of these users are timed next to two bare commands. A
million users take a quarter of an hour.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import redis

from benchmarks.pairs import in_turns
from benchmarks.redis_ledger import bare, server
from capguard.backends.redis import RedisBackend
from capguard.ledger.commands import Reserve
from capguard.testing.conformance.builders import cap, reserve, seconds, settle

WINDOWS = ("monthly", "weekly", "daily")


def main(counts: list[int]) -> None:
    print(
        f"{'users':>10} {'bytes/user, 3 caps':>20} {'bytes/id':>10} {'bytes/entry of the journal':>28} {'buckets':>8}"
        f" {'reserve + settle':>18}"
    )
    for count in counts:
        with server() as url:
            print(row(url, count))


def row(url: str, count: int) -> str:
    client = redis.Redis.from_url(url)
    ledger = RedisBackend(url, deadline=30)
    now = seconds(time.time_ns() // 1_000_000)
    empty = used(client)
    for number in range(count):
        ledger.execute(called(number, f"{number:032x}", now, book=True))
    full = used(client)
    entries = int(client.hget("cg1:{default}:meta", "seq") or 0)
    client.xtrim("cg1:{default}:log", maxlen=1, approximate=False)
    kept = used(client)
    size = int(client.hget("cg1:{default}:meta", "size") or 1)
    client.script_flush()
    kept = used(client)
    ids = sum(_bytes(client, number, 19) for number in range(size))
    meters = sum(_bytes(client, number, 30) for number in range(size))
    ratio = in_turns(pair(ledger, count, now), bare(url), rounds=20, batch=100, batch_theirs=100).ratio
    both = kept - empty  # what the buckets take around their rows is shared out by the rows' bytes
    ids_cost, users_cost = both * ids / (ids + meters) / count, both * meters / (ids + meters) / count
    return (
        f"{count:>10} {users_cost:>20.0f} {ids_cost:>10.0f} {(full - kept) / entries:>28.0f} {size:>8} {ratio:>17.2f}x"
    )


def called(number: int, id: str, now: float, *, book: bool) -> Reserve:
    """A call of one of the users."""
    legs = [cap(window, 10**15, window=window, at=now, who=f"user_{number}") for window in WINDOWS]
    return reserve(id, 15_000_000, *legs, user=f"user_{number}", retention=24 * 3600, book=book)


def pair(ledger: RedisBackend, users: int, now: float) -> Callable[[], object]:
    """A reserve and a settle of one user after the other, all over the books."""
    numbers = iter(range(10**9))

    def both() -> None:
        number = next(numbers)
        id = f"timed {number}"
        ledger.execute(called(number * 7919 % users, id, now, book=False))
        ledger.execute(settle(id, 14_000_000))

    return both


def _bytes(client: redis.Redis, bucket: int, length: int) -> int:
    rows = client.hgetall(f"cg1:{{default}}:b:{bucket}")
    return sum(len(field) + len(value) for field, value in rows.items() if len(field) == length)


def used(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory_dataset"])


if __name__ == "__main__":
    main([int(each) for each in sys.argv[1:]] or [1_000, 10_000, 100_000])
