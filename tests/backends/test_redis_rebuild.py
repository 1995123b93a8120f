"""`capguard recover --archive` makes a ledger anew from its journal: nothing that was archived, or is left, is lost.

Each loss is a real one, on a server of its own, in the middle of calls that go on afterwards.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from capguard import BackendUnavailable, CapExceeded, Guard
from capguard.backends.redis.archive import Archive
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
    return {name: value for name, value in fields.items() if name not in ("since", "resets_at", "as_of")}


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
    for strays in (12, 0):
        said = run("recover", "--archive", str(journal), "--url", server.url)
        assert (f"; {strays} entries of another life of it were told" in said) == bool(strays)
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
    refused(server, tmp_path / "journal.db", "does not begin at entry 1")
    assert guard.status(**WHO).caps["monthly"].settled == 3


def refused(server: Server, path: Path, why: str, *words: str) -> None:
    found = CliRunner().invoke(app, ["recover", "--archive", str(path), "--url", server.url, *words])
    assert found.exit_code != 0
    assert why in " ".join(found.output.split())


def test_a_held_call_whose_owner_is_gone_ends(server: Server, guard: Guard, tmp_path: Path) -> None:
    """It is held for as long as it was to be, should its owner live; then it expires as any call (P4)."""
    journal = tmp_path / "journal.db"
    guard.extend(guard.reserve(**WHO, cost=1, id="orphan"), ttl=900)
    due = server.client().zscore("cg1:{default}:due", "orphan")
    run("archive", "--url", server.url, "--to", str(journal))
    server.client().flushall()
    run("recover", "--archive", str(journal), "--url", server.url)
    assert server.client().zscore("cg1:{default}:due", "orphan") == due


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


# whose archive it is, and what it has to have


def test_nothing_is_made_of_a_file_that_is_not_there(server: Server, guard: Guard, tmp_path: Path) -> None:
    """A name that was mistyped makes no empty ledger; nor does an archive that nothing was ever written to."""
    spend(guard, "1")
    server.client().flushall()
    refused(server, tmp_path / "typo.db", "no such file")
    assert not (tmp_path / "typo.db").exists()
    Archive(tmp_path / "empty.db").create()
    refused(server, tmp_path / "empty.db", "there is nothing to make a ledger of")
    with pytest.raises(BackendUnavailable):
        guard.status(**WHO)


def test_the_archive_of_another_ledger_is_refused(server: Server, guard: Guard, tmp_path: Path) -> None:
    """Of another namespace, also where this one was emptied."""
    journal = tmp_path / "staging.db"
    with Guard(server.url, policy=POLICY, namespace="staging") as staging:
        spend(staging, "1")
        run("archive", "--url", server.url, "--namespace", "staging", "--to", str(journal))
        spend(guard, "2")
        refused(server, journal, "the archive of another ledger")
        assert guard.status(**WHO).caps["monthly"].settled == 2
    before = Archive(journal).last()
    server.client().flushall()
    refused(server, journal, "the archive of another ledger")
    assert Archive(journal).last() == before


def test_a_sharded_ledger_is_recovered_as_it_is_sharded(server: Server, tmp_path: Path) -> None:
    """By a URL that does not say so it would lose all shards but one."""
    caps = {"caps": [{"id": "monthly", "limit": 10}], "failure": {"backend": "closed", "deadline": 10}}
    journal = tmp_path / "journal.db"
    with Guard(f"{server.url}?shard_by=user", policy=caps) as guard:
        guard.allow(user="u1", amount=1)
        run("archive", "--url", f"{server.url}?shard_by=user", "--to", str(journal))
        for words in (["--accept-loss"], ["--archive", str(journal)]):
            found = CliRunner().invoke(app, ["recover", "--url", server.url, *words])
            assert found.exit_code != 0
            assert "sharded by user" in " ".join(found.output.split())
        (tmp_path / "journal-7.db").unlink()
        server.client().flushall()
        refused_by = CliRunner().invoke(
            app, ["recover", "--url", f"{server.url}?shard_by=user", "--archive", str(journal)]
        )
        assert "journal-7.db: no such file" in " ".join(refused_by.output.split())
        with pytest.raises(BackendUnavailable):
            guard.status(user="u1")


def test_an_archive_goes_on_with_its_own_life_only(server: Server, guard: Guard, tmp_path: Path) -> None:
    """After `--accept-loss` the numbers begin anew: the old file takes none of them, and nothing is dropped."""
    journal = tmp_path / "journal.db"
    for _ in range(5):
        spend(guard, "0.1")
    run("archive", "--url", server.url, "--to", str(journal))
    server.client().flushall()
    run("recover", "--accept-loss", "--url", server.url)
    comes_back(guard)
    assert guard.flush(10)
    spend(guard, "0.1")
    entries = len(list(guard.entries()))
    found = CliRunner().invoke(app, ["archive", "--url", server.url, "--to", str(journal)])
    assert found.exit_code == 2
    assert "another life" in " ".join(found.output.split())
    assert len(list(guard.entries())) == entries


def test_a_journal_that_is_gone_and_was_not_archived(server: Server, guard: Guard, tmp_path: Path) -> None:
    """The meters know of entries that no archive has: an older archive does not take their place."""
    journal = tmp_path / "journal.db"
    spend(guard, "1")
    run("archive", "--url", server.url, "--to", str(journal))
    spend(guard, "2")
    _without("log")(server.client())
    refused(server, journal, "are neither in")
    run("recover", "--accept-loss", "--url", server.url)
    comes_back(guard)
    assert guard.status(**WHO).caps["monthly"].settled == 3


def test_a_damaged_archive(server: Server, guard: Guard, tmp_path: Path) -> None:
    for _ in range(40):
        spend(guard, "0.01")
    journal = tmp_path / "journal.db"
    run("archive", "--url", server.url, "--to", str(journal))
    with journal.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_960)
    refused(server, journal, "malformed")
    with Guard(f"{server.url}?archive={journal}", policy=POLICY) as reader, pytest.raises(BackendUnavailable):
        list(reader.entries())


# two lives of one ledger


@pytest.fixture
def second_life(server: Server, guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guard]:
    """A process of another host, which takes the emptied server for a new one, as nobody is strict."""
    journal = tmp_path / "journal.db"
    guard.reserve(**WHO, cost=2, id="held")
    spend(guard, "1", id="settled")
    run("archive", "--url", server.url, "--to", str(journal))
    server.client().flushall()
    monkeypatch.setenv("CAPGUARD_STATE", str(tmp_path / "another host"))
    with Guard(server.url, initial_policy={**POLICY, "plans": {"pro": {"caps": CAPS[:1]}}}) as other:
        yield other


def goes_on(server: Server, guard: Guard, tmp_path: Path) -> None:
    run("recover", "--archive", str(tmp_path / "journal.db"), "--url", server.url)
    comes_back(guard)
    assert guard.flush(10)
    assert guard.verify()


def test_a_call_of_both_lives_counts_once(server: Server, guard: Guard, tmp_path: Path, second_life: Guard) -> None:
    """Retried under its id by whoever knew nothing: what was held is settled, what was settled is not settled again."""
    spend(second_life, "1", id="settled")
    spend(second_life, "2", id="held")
    spend(second_life, "0.5", id="new")
    goes_on(server, guard, tmp_path)
    shown = guard.status(**WHO).caps["monthly"]
    assert (shown.settled, shown.held) == (Decimal("3.5"), 0)


def test_what_was_told_again_in_a_second_life_counts_once(server: Server, guard: Guard, tmp_path: Path) -> None:
    """--accept-loss, everybody tells what it settled, and then somebody finds the archive."""
    journal = tmp_path / "journal.db"
    spend(guard, "1")
    run("archive", "--url", server.url, "--to", str(journal))
    server.client().flushall()
    run("recover", "--accept-loss", "--url", server.url)
    comes_back(guard)
    assert guard.flush(10)
    assert guard.status(**WHO).caps["monthly"].settled == 1
    goes_on(server, guard, tmp_path)
    assert guard.status(**WHO).caps["monthly"].settled == 1


def test_profiles_and_policies_of_two_lives(server: Server, guard: Guard, tmp_path: Path, second_life: Guard) -> None:
    """The first life's stand; what the second one said of a user is said again, once, under newer revisions."""
    later = datetime.now(UTC) + timedelta(days=20)
    second_life.grant(user="u1", amount=5, id="sorry", until=later)  # the id has other terms in the first life
    second_life.grant(user="u1", amount=1, id="more", until=later)
    second_life.override(user="u1", cap="monthly", limit=4)
    goes_on(server, guard, tmp_path)
    shown = guard.status(**WHO)
    assert shown.caps["monthly"].limit == 4
    assert {grant.id: grant.amount for grant in shown.grants} == {"sorry": 3, "more": 1}
    assert "run" in {cap.id for cap in shown.caps}
    with pytest.raises(CapExceeded):
        guard.reserve(**WHO, cost="1.5")
    assert [revision.revision for revision in guard.history()] == [1]


def test_an_idle_run_goes_on_with_its_open_call(server: Server, guard: Guard, tmp_path: Path) -> None:
    """A call that is in flight keeps its run: after the recovery as before."""
    idle = [{"id": "run", "per": ["session"], "limit": 5, "window": "lifetime", "idle": "1s"}]
    journal = tmp_path / "journal.db"
    with Guard(server.url, policy={"caps": idle, "failure": {"deadline": 10}}) as runs:
        runs.allow(session="s1", amount=3)
        runs.reserve(session="s1", cost=1, ttl=600)
        run("archive", "--url", server.url, "--to", str(journal))
        server.client().flushall()
        run("recover", "--archive", str(journal), "--url", server.url)
        comes_back(runs)
        time.sleep(1.1)
        shown = runs.status(session="s1").caps["run"]
        assert (shown.settled, shown.held) == (3, 1)


def test_a_snapshot_from_between_two_recoveries_is_noticed(server: Server, guard: Guard) -> None:
    """It follows another ledger, as every recovered one does: but not the newer one that was seen."""
    client = server.client()
    spend(guard, "1")
    run("recover", "--accept-loss", "--url", server.url)
    comes_back(guard)
    spend(guard, "1")
    dump = {key: client.dump(key) for key in client.keys("*")}
    run("recover", "--accept-loss", "--url", server.url)
    comes_back(guard)
    spend(guard, "1")
    client.flushall()
    for key, value in dump.items():
        client.restore(key, 0, value)
    with pytest.raises(BackendUnavailable, match="lost"):
        guard.reserve(**WHO, cost=1)


# what living processes tell


def test_what_the_outbox_delivered_is_told_again_too(server: Server, guard: Guard, tmp_path: Path) -> None:
    """Settled in an outage, delivered after it, then lost: and lost once more."""
    journal = tmp_path / "journal.db"
    with Guard(f"{server.url}?deadline=0.3", initial_policy=POLICY) as other:
        held = other.reserve(**WHO, cost=2)
        run("archive", "--url", server.url, "--to", str(journal))
        server.freeze()
        other.settle(held, cost=2)
        server.thaw()
        comes_back(other)
        assert other.flush(10)
        for _ in range(2):
            server.client().flushall()
            run("recover", "--archive", str(journal), "--url", server.url)
            comes_back(other)
            assert other.flush(10)
            shown = other.status(**WHO).caps["monthly"]
            assert (shown.settled, shown.held) == (2, 0)


def test_many_threads_meet_a_recovery_at_once(server: Server, guard: Guard) -> None:
    """None of their calls ends in an error for it (P10)."""
    failed: list[BaseException] = []
    done = threading.Event()

    def work(user: str) -> None:
        while not done.is_set():
            try:
                guard.allow(user=user, amount="0.0001")
            except BackendUnavailable:
                time.sleep(0.01)
            except BaseException as error:
                failed.append(error)
                raise

    for number in range(600):
        guard.allow(user=f"u{number}", amount="0.0001")
    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        run("recover", "--accept-loss", "--url", server.url)
        time.sleep(0.3)
    done.set()
    for thread in threads:
        thread.join()
    assert failed == []
