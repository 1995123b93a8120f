"""What an outage costs: every fault of the tests, done to a real redis-server while calls go on.

    python -m benchmarks.outage

For each fault, 60 calls begin before it, 200 during it, and all end in it. `longest` is the slowest verb in ms at a
deadline of 250 ms, `alone` the median of a refused reserve once the breaker is open, in us. `lost` and `doubled` are
settles that returned and are booked not at all, or twice; `over`: calls that were let through beyond the share.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from capguard import BackendUnavailable, Guard
from capguard.testing.proxy import Proxy
from tests.backends.servers import Server, servers
from tests.resilience.faults import REDIS, Place

POLICY = {"caps": [{"id": "c", "limit": 1000}], "failure": {"offline_share": 0.02}}
COST = "0.5"
ROOM = 20  # the least of 2% of 1000 and $10, in calls of $0.5


def main() -> None:
    os.environ["CAPGUARD_STATE"] = tempfile.mkdtemp(prefix="capguard-outage-")
    print(f"{'fault':24} {'longest':>8} {'alone':>6} {'let through':>11} {'over':>5} {'lost':>5} {'doubled':>8}")
    for name, fault in REDIS.items():
        server = Server(servers()[-1], "--appendonly", "yes")
        with Proxy(server.port) as proxy:
            print(f"{name:24} {row(Place(server, proxy), fault)}", flush=True)
        server.stop()


def row(place: Place, fault: Callable[[Place], Any]) -> str:
    took: list[float] = []
    refused: list[float] = []
    settled: set[str] = set()
    through = 0

    def timed(verb: Callable[[], Any], sink: list[float]) -> Any:
        began = time.perf_counter()
        try:
            return verb()
        finally:
            sink.append(time.perf_counter() - began)

    with Guard(place.url, policy=POLICY) as guard:
        before = [guard.reserve(user="u1", cost=COST) for _ in range(60)]
        with fault(place):
            for reservation in before:
                timed(lambda held=reservation: guard.settle(held, cost=COST), took)
                settled.add(reservation.id)
            for _ in range(200):
                try:
                    held = timed(lambda: guard.reserve(user="u1", cost=COST), took)
                except BackendUnavailable:
                    refused.append(took[-1])
                    continue
                through += 1
                timed(lambda held=held: guard.settle(held, cost=COST), took)
                settled.add(held.id)
        guard.flush(60)
        booked = Counter(entry.id for entry in guard.entries() if entry.kind == "settle")
        assert guard.verify()
    alone = statistics.median(refused) * 1e6 if refused else 0
    doubled = sum(count - 1 for count in booked.values())
    lost = len(settled - booked.keys())
    return f"{max(took) * 1e3:8.0f} {alone:6.0f} {through:11} {max(0, through - ROOM):5} {lost:5} {doubled:8}"


if __name__ == "__main__":
    main()
