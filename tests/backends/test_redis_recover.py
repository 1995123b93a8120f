"""State that was lost is noticed by whoever had seen more, and is never taken for zero (P8).

`recover` goes on with what is left, for every process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest
import redis
from typer.testing import CliRunner

from capguard import BackendUnavailable, CapExceeded, Guard
from capguard.cli.app import app
from tests.backends.servers import Server

POLICY = {"caps": [{"id": "monthly", "limit": 1}], "failure": {"backend": "closed", "deadline": 10}}


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("wheel", "--appendonly", "yes")
    yield server
    server.stop()


def spend(guard: Guard, cost: str) -> None:
    guard.settle(guard.reserve(user="u1", cost=cost), cost=cost)


def comes_back(guard: Guard) -> None:
    """Until the breaker has asked again: a second or two after the failures."""
    for _ in range(200):
        if guard.health():
            return
        time.sleep(0.05)
    raise AssertionError(guard.health().why)


def _flush(client: redis.Redis) -> None:
    client.flushall()


def _rewind(client: redis.Redis) -> None:
    """As a replica that lagged behind would have it."""
    client.hincrby("cg1:{default}:meta", "seq", -3)


def _without_meta(client: redis.Redis) -> None:
    client.delete("cg1:{default}:meta")


def _without_bucket(client: redis.Redis) -> None:
    client.delete("cg1:{default}:b:0")


def _replaced(client: redis.Redis) -> None:
    """Somebody else, who had seen nothing, began a new ledger after the flush."""
    client.flushall()
    port = client.connection_pool.connection_kwargs["port"]
    with Guard(f"redis://127.0.0.1:{port}", policy=POLICY) as other:
        other.status(user="u1")


@pytest.mark.parametrize("lose", [_flush, _rewind, _without_meta, _without_bucket, _replaced])
def test_lost_state_is_noticed_and_recovered_from(server: Server, lose: Callable[[redis.Redis], None]) -> None:
    """Before `recover` every verb of every process that saw more raises; after it, both go on."""
    with Guard(server.url, policy=POLICY) as guard, Guard(server.url, policy=POLICY) as other:
        spend(guard, "0.9")
        spend(other, "0.05")
        lose(server.client())
        for verb in (lambda: guard.reserve(user="u1", cost="0.01"), lambda: other.status(user="u1"), guard.verify):
            with pytest.raises(BackendUnavailable, match=r"capguard recover --accept-loss"):
                verb()
        found = CliRunner().invoke(app, ["recover", "--accept-loss", "--url", server.url])
        assert found.exit_code == 0, found.output
        comes_back(guard)
        comes_back(other)
        spend(guard, "0.01")
        spend(other, "0.01")
        for each in (guard, other):
            assert each.flush(10)
        assert guard.status(user="u1").caps["monthly"].settled == Decimal("0.97")


def test_what_living_processes_settled_last_is_booked_anew(server: Server) -> None:
    """An emptied server without an archive: what they settled, each of them knows, and says it once."""
    with Guard(server.url, policy=POLICY) as guard, Guard(server.url, policy=POLICY) as other:
        for each in (guard, other):
            spend(each, "0.1")
            assert each.allow(user="u1", amount="0.2")
        server.client().flushall()
        for each in (guard, other):
            with pytest.raises(BackendUnavailable):
                each.status(user="u1")
        for _ in range(2):
            found = CliRunner().invoke(app, ["recover", "--accept-loss", "--url", server.url])
            assert found.exit_code == 0, found.output
            for each in (guard, other):
                comes_back(each)
                each.status(user="u1")
                assert each.flush(10)
        assert guard.status(user="u1").caps["monthly"].settled == Decimal("0.6")
        causes = [entry.body["facts"].get("cause") for entry in guard.entries() if entry.kind == "settle"]
        assert causes == ["lost"] * 4
        assert guard.verify()


def test_what_is_left_still_counts(server: Server) -> None:
    """Only the meta key was lost: every meter is there after `recover`, and the cap holds."""
    with Guard(server.url, policy=POLICY) as guard:
        spend(guard, "0.9")
        _without_meta(server.client())
        CliRunner().invoke(app, ["recover", "--accept-loss", "--url", server.url])
        comes_back(guard)
        with pytest.raises(CapExceeded):
            guard.reserve(user="u1", cost="0.2")
        assert guard.verify()


def test_a_restart_with_its_append_only_file_goes_on(server: Server) -> None:
    with Guard(server.url, policy=POLICY) as guard:
        spend(guard, "0.9")
        server.kill()
        with pytest.raises(BackendUnavailable):
            guard.status(user="u1")
        server.start()
        comes_back(guard)
        assert guard.status(user="u1").caps["monthly"].settled == Decimal("0.9")
        assert guard.verify()


def test_strict_takes_no_empty_server_for_a_new_ledger() -> None:
    server = Server("wheel", "--appendonly", "yes")
    try:
        guard = Guard(f"{server.url}?strict=1", policy=POLICY)
        with pytest.raises(BackendUnavailable, match="strict"):
            guard.status(user="u1")
        CliRunner().invoke(app, ["recover", "--accept-loss", "--url", server.url])
        comes_back(guard)
        spend(guard, "0.5")
        guard.close()
    finally:
        server.stop()


def test_strict_refuses_a_server_that_forgets(caplog: pytest.LogCaptureFixture) -> None:
    """Without an append-only file, or where keys are evicted; without `strict` it is said, and used."""
    server = Server("wheel", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
    try:
        with Guard(server.url, policy=POLICY) as guard:
            spend(guard, "0.5")
        assert {"maxmemory-policy noeviction", "appendonly yes"} <= {
            r.getMessage().split("set ")[-1] for r in caplog.records
        }
        with (
            Guard(f"{server.url}?strict=1", policy=POLICY) as guard,
            pytest.raises(BackendUnavailable, match="noeviction"),
        ):
            guard.status(user="u1")
    finally:
        server.stop()


def test_recover_says_what_it_needs(server: Server) -> None:
    """Nothing is done unasked, and a ledger in memory has nothing to recover."""
    for words, said in [
        (["--url", server.url], "--accept-loss"),
        (["--url", "sqlite:///x.db"], "--accept-loss"),
        (["--url", server.url, "--accept-loss", "--archive", "x.db"], "one of them"),
        (["--url", "memory://", "--accept-loss"], "is not recovered"),
        (["--url", "memory://", "--archive", "x.db"], "keeps its journal itself"),
    ]:
        found = CliRunner().invoke(app, ["recover", *words])
        assert found.exit_code == 2
        assert said in found.output
