"""A ledger that was made anew from its journal holds what the lost one held, row by row, after any calls."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from capguard import CapguardError, Guard
from capguard.backends.redis import RedisBackend
from capguard.testing import ManualClock
from tests.backends.redis_rows import rows_of
from tests.backends.servers import Server

POLICY: dict[str, Any] = {
    "default_plan": "pro",
    "plans": {
        "pro": {
            "included": {"amount": 3, "window": "daily"},
            "caps": [
                {"id": "monthly", "limit": 40},
                {"id": "hour", "limit": 600, "unit": "requests", "window": "rolling:1h"},
                {"id": "minute", "limit": 60, "window": "rolling:60s", "action": "warn"},
                {"id": "run", "per": ["session"], "limit": 30, "window": "lifetime", "idle": "1h", "action": "warn"},
                {"id": "over", "limit": 20, "window": "daily", "overage_only": True, "action": "warn"},
                {"id": "own", "limit": 25, "window": "hourly", "ignore_grants": True, "action": "warn"},
            ],
        }
    },
    "failure": {"backend": "closed", "deadline": 10},
}
SEEDS = range(200) if os.environ.get("CAPGUARD_SOAK") else range(12)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server("wheel", "--appendonly", "no")
    yield server
    server.stop()


class Play:
    """Everything that can be done with a ledger, at random."""

    def __init__(self, guard: Guard, clock: ManualClock, chance: random.Random):
        self.guard, self.clock, self.chance = guard, clock, chance
        self.held: list[Any] = []
        self.ended: list[Any] = []
        self.number = 0
        self.who: dict[str, str] = {}

    def go(self, steps: int, longest_s: int) -> None:
        deeds: list[Callable[[], object]] = [self._reserve, self._reserve, self._reserve, self._settle, self._settle]
        deeds += [self._release, self._allow, self._extend, self._settle_again, self._release_again, self._too_late]
        deeds += [self._grant, self._override, self._publish, self._revoke]
        for self.number in range(steps):
            self.clock.advance(milliseconds=self.chance.randrange(1, longest_s * 1000))
            self.who = {"user": f"u{self.chance.randrange(4)}", "session": f"s{self.chance.randrange(3)}"}
            try:
                self.chance.choice(deeds)()
            except (CapguardError, ValueError, IndexError):
                continue  # a refusal is as good a step as any

    def _reserve(self) -> None:
        id = self.chance.choice([None, f"call {self.number}"])
        ttl = self.chance.choice([60, 300, 3600, 80_000])
        self.held.append(self.guard.reserve(**self.who, cost=self.chance.randrange(1, 3), id=id, ttl=ttl))

    def _one(self) -> Any:
        taken = self.held.pop(self.chance.randrange(len(self.held))) if self.held else self.ended[99999]
        self.ended.append(taken)
        return taken

    def _settle(self) -> None:
        self.guard.settle(self._one().id, cost=self.chance.randrange(3))

    def _release(self) -> None:
        self.guard.release(self._one())

    def _settle_again(self) -> None:
        self.guard.settle(self.chance.choice(self.ended).id, cost=self.chance.randrange(4))

    def _release_again(self) -> None:
        self.guard.release(self.chance.choice(self.ended))

    def _too_late(self) -> None:
        self.guard.settle(f"{self.clock() - 90_000_000 * self.chance.randrange(2):012x}{self.number:020x}", cost=1)

    def _allow(self) -> None:
        self.guard.allow(**self.who, amount=self.chance.choice(["0.5", "0.25"]))

    def _extend(self) -> None:
        more = {"ttl": self.chance.randrange(100, 5000), "amount": self.chance.randrange(1, 5)}
        self.guard.extend(self.chance.choice(self.held), **more)

    def _grant(self) -> None:
        until = self.chance.choice([None, self.clock.now + timedelta(hours=self.chance.randrange(1, 30))])
        terms = {"amount": self.chance.randrange(1, 5), "id": f"g{self.number}", "until": until}
        self.guard.grant(user=self.who["user"], **terms)

    def _revoke(self) -> None:
        self.guard.revoke(user=self.who["user"], id=f"g{self.chance.randrange(self.number + 1)}")

    def _override(self) -> None:
        self.guard.override(user=self.who["user"], cap="monthly", limit=self.chance.randrange(30, 60))

    def _publish(self) -> None:
        policy = json.loads(json.dumps(POLICY))
        window = ("daily", "rolling:2h", "monthly")[self.number % 3]
        policy["plans"]["pro"]["caps"].append({"id": "new", "limit": 50, "window": window, "action": "warn"})
        self.guard.publish(policy, backfill=self.chance.random() < 0.7)


@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_the_same_ledger(
    server: Server, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    chance, client, archive = random.Random(seed), server.client(), tmp_path / "journal.db"
    client.flushall()
    with Guard(server.url, initial_policy=POLICY, clock=clock) as guard:
        Play(guard, clock, chance).go(150, chance.choice([5, 60, 600, 3000]))
        guard.status(user="u0", session="s0")  # ends what is overdue
        assert guard.verify()
    before = rows_of(client, clock())
    RedisBackend(server.url, clock=clock, deadline=10).archive(archive)
    client.flushall()
    RedisBackend(server.url, clock=clock, deadline=10).restore(archive)
    after = rows_of(client, clock())
    assert {key: (before.get(key), after.get(key)) for key in before | after if before.get(key) != after.get(key)} == {}
    monkeypatch.setenv("CAPGUARD_STATE", str(tmp_path))
    with Guard(f"{server.url}?archive={archive}&deadline=10", clock=clock) as other:
        assert other.verify()
