"""`capguard recover --archive` makes a ledger anew from its journal: nothing that was archived, or is left, is lost.

Each loss is a real one, on a server of its own, in the middle of calls that go on afterwards.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from capguard import BackendUnavailable, CapExceeded, Guard
from capguard.cli.app import app
from capguard.testing.proxy import Proxy
from tests.backends.servers import Server
from tests.backends.test_redis_recover import comes_back

CAPS = [
    {"id": "monthly", "limit": 10},
    {"id": "minute", "limit": 60, "unit": "requests", "window": "rolling:1h"},
    {"id": "run", "per": ["session"], "limit": 5, "window": "lifetime", "idle": "1h"},
]
POLICY = {
    "default_plan": "pro",
    "plans": {"pro": {"included": {"amount": 2, "window": "monthly"}, "caps": CAPS}},
    "failure": {"backend": "closed", "deadline": 10},
}
WHO = {"user": "u1", "session": "s1"}


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("wheel", "--appendonly", "yes")
    yield server
    server.stop()


@pytest.fixture
def guard(server: Server) -> Iterator[Guard]:
    with Guard(server.url, initial_policy=POLICY) as guard:
        guard.grant(user="u1", amount=3, id="sorry", until=datetime.now(UTC) + timedelta(days=9))
        guard.override(user="u1", cap="monthly", limit=9)
        yield guard


def run(*words: str) -> str:
    found = CliRunner().invoke(app, [*words])
    assert found.exit_code == 0, found.output
    return found.output


def spend(guard: Guard, cost: str, id: str | None = None) -> None:
    guard.settle(guard.reserve(**WHO, cost=cost, id=id), cost=cost)


def shown(guard: Guard) -> object:
    """Where the user stands, without the times that depend on when it is asked."""
    found = guard.status(**WHO).to_dict()
    return json.loads(json.dumps(found, default=str), object_hook=_without_times)


def _without_times(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name not in ("resets_at", "as_of")}


def _flush(client: redis.Redis) -> None:
    client.flushall()


def _without(*names: str) -> Callable[[redis.Redis], None]:
    def lose(client: redis.Redis) -> None:
        client.delete(*(f"cg1:{{default}}:{name}" for name in names))

    lose.__name__ = "without_" + "_".join(names).replace(":", "")
    return lose


LOSSES = [_flush, _without("meta"), _without("b:0"), _without("log"), _without("open", "due"), _without("users")]


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__.strip("_"))
def test_everything_that_was_archived_is_there_again(
    server: Server, guard: Guard, tmp_path: Path, lose: Callable[[redis.Redis], None]
) -> None:
    """Meters of every kind, who pays, calls in flight, ids, the policy, profiles: for every process that goes on."""
    journal = tmp_path / "journal.db"
    for number in range(5):
        spend(guard, "0.5", id=f"call-{number}")
    held = guard.reserve(**WHO, cost=1, id="in flight")
    released = guard.reserve(**WHO, cost=1)
    guard.release(released)
    assert guard.allow(**WHO, amount="0.25")
    before = shown(guard)
    run("archive", "--url", server.url, "--to", str(journal))
    lose(server.client())
    with pytest.raises(BackendUnavailable, match="recover --archive"):
        guard.reserve(**WHO, cost=1)
    assert "1 calls in flight, 1 profiles" in run("recover", "--archive", str(journal), "--url", server.url)
    comes_back(guard)
    assert guard.flush(10)
    assert shown(guard) == before
    assert guard.verify()
    assert guard.reserve(**WHO, cost="0.5", id="call-3").id == "call-3"  # which counts once, and for good
    assert guard.settle(held, cost="0.75").cost == Decimal("0.75")
    with pytest.raises(CapExceeded):
        guard.reserve(**WHO, cost=6)
    with Guard(server.url) as other:
        assert other.status(**WHO).caps["monthly"].settled == Decimal("3.5")
        assert other.status(**WHO).caps["monthly"].limit == 9
        assert other.verify()


def test_what_only_the_store_had_is_kept(
    server: Server, guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive is older than the loss, and after the loss somebody who knew nothing went on: all of it counts."""
    journal = tmp_path / "journal.db"
    spend(guard, "1")
    run("archive", "--url", server.url, "--to", str(journal))
    spend(guard, "2")
    _without("b:0")(server.client())
    run("recover", "--archive", str(journal), "--url", server.url)
    comes_back(guard)
    assert guard.status(**WHO).caps["monthly"].settled == 3
    server.client().flushall()
    monkeypatch.setenv("CAPGUARD_STATE", str(tmp_path / "another host"))
    with Guard(server.url, policy=POLICY) as ignorant:
        for _ in range(6):
            spend(ignorant, "0.5")
    for only_the_store_had in (12, 0):
        said = run("recover", "--archive", str(journal), "--url", server.url)
        assert f"{only_the_store_had} of which no archive had" in said
        comes_back(guard)
        assert guard.status(**WHO).caps["monthly"].settled == 6
        assert guard.verify()


def test_repeated_it_changes_nothing(server: Server, guard: Guard, tmp_path: Path) -> None:
    """Also where it was stopped in between: it begins again."""
    journal = tmp_path / "journal.db"
    spend(guard, "1")
    for _ in range(3):
        run("recover", "--archive", str(journal), "--url", server.url)
    server.client().hdel("cg1:{default}:meta", "epoch")  # as after its first half
    run("recover", "--archive", str(journal), "--url", server.url)
    comes_back(guard)
    assert guard.status(**WHO).caps["monthly"].settled == 1
    assert [entry.seq for entry in guard.entries()] == list(range(1, 6))
    assert guard.verify()


def test_a_gap_is_said_and_nothing_is_touched(server: Server, guard: Guard, tmp_path: Path) -> None:
    for _ in range(3):
        spend(guard, "1")
    server.client().xtrim("cg1:{default}:log", maxlen=2)
    words = ["recover", "--archive", str(tmp_path / "journal.db"), "--url", server.url]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2
    assert "some are in neither" in found.output
    assert guard.status(**WHO).caps["monthly"].settled == 3


def test_a_held_call_whose_owner_is_gone_ends(server: Server, guard: Guard, tmp_path: Path) -> None:
    """It is held anew for its owner, should it live; otherwise it expires as any call (P4)."""
    journal = tmp_path / "journal.db"
    guard.reserve(**WHO, cost=1, id="orphan")
    run("archive", "--url", server.url, "--to", str(journal))
    server.client().flushall()
    run("recover", "--archive", str(journal), "--url", server.url)
    due = server.client().zscore("cg1:{default}:due", "orphan")
    assert due is not None
    assert time.time() * 1000 < due < (time.time() + 300) * 1000


STEPS = [b"XRANGE", b"HDEL", b"DEL", b":users", b":b:0", b"ZADD", b"XADD", b"follows"]


@pytest.mark.parametrize("step", STEPS, ids=bytes.decode)
def test_stopped_anywhere_it_is_no_ledger_until_it_is_done(
    server: Server, guard: Guard, tmp_path: Path, step: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks at one of its steps, tried twice: nobody takes what is there for a new ledger."""
    journal = tmp_path / "journal.db"
    spend(guard, "1")
    guard.reserve(**WHO, cost=1, id="in flight")
    _without("b:0")(server.client())
    with Proxy(server.port) as proxy:
        proxy.fail("reset", on=step, times=2)
        url = f"redis://127.0.0.1:{proxy.port}/0"
        found = CliRunner().invoke(app, ["recover", "--archive", str(journal), "--url", url])
        assert found.exit_code != 0
        assert proxy.happened == 2
    monkeypatch.setenv("CAPGUARD_STATE", str(tmp_path / "another host"))
    with Guard(server.url, policy=POLICY) as stranger:
        if step == b"follows":  # its last step: the answer alone was lost
            assert stranger.verify()
        else:
            with pytest.raises(BackendUnavailable, match="lost"):
                stranger.status(**WHO)
    run("recover", "--archive", str(journal), "--url", server.url)
    comes_back(guard)
    assert guard.flush(10)
    assert guard.status(**WHO).caps["monthly"].settled == 1
    assert guard.verify()
