"""Processes that fork, threads, event loops, protocols, TLS: the same ledger through each of them."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from capguard.backends.redis import RedisBackend
from capguard.errors import BackendUnavailable
from capguard.ledger.commands import Alerts, Look, Refusals, Verify
from capguard.ledger.outcomes import Denied, Held, Outcome
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import cap, release, reserve, settle
from capguard.testing.conformance.driving import MODES, driven
from capguard.testing.conformance.told import told
from capguard.testing.proxy import Proxy
from tests.backends.redis_place import Place, say

ROOMY, TEN = cap("roomy", 10**6), cap("ten", 10)


def _clients(place: Place) -> int:
    return len(place.raw.client_list())  # type: ignore[arg-type]


# Forks


def _exit_code_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_fork_after_the_first_use(place: Place) -> None:
    """Parent and children that were forked from it go on with the same object: none takes another's replies."""
    backend = place.open(ManualClock())
    say(backend, (reserve("first", 1, ROOMY), "held"))
    children = []
    for child in range(4):
        pid = os.fork()
        if pid == 0:
            os._exit(_as_a_child(backend, child))
        children.append(pid)
    for n in range(100):
        say(backend, (reserve(f"parent-{n}", 1, ROOMY), "held"))
    assert [_exit_code_of(pid) for pid in children] == [0] * 4
    say(backend, (Look((ROOMY,)), "meters 80/341/0"), (Verify(), "verified 501 entries, 1 meters, 341 open"))
    backend.close()


def _as_a_child(backend: RedisBackend, child: int) -> int:
    """80 calls, 20 of them settled. 0 where every reply was the one to what was asked."""
    try:
        for n in range(100):
            if n < 80:
                say(backend, (reserve(f"child-{child}-{n}", 1, ROOMY), "held"))
            else:
                say(backend, (settle(f"child-{child}-{n - 80}", 1), "settled 1"))
    except (AssertionError, BackendUnavailable):
        return 1
    return 0


def test_a_fork_while_an_event_loop_ran(place: Place) -> None:
    """A child starts its own loop with the object that its parent used in one."""
    backend = place.open(ManualClock())
    assert told(asyncio.run(backend.aexecute(reserve("first", 1, ROOMY)))) == "held"
    child = os.fork()
    if child == 0:
        outcome = asyncio.run(backend.aexecute(reserve("second", 1, ROOMY)))
        os._exit(told(outcome) != "held")
    assert _exit_code_of(child) == 0
    assert told(asyncio.run(backend.aexecute(Look((ROOMY,))))) == "meters 0/2/0"
    backend.close()


# Threads, tasks, loops


def test_many_threads(place: Place) -> None:
    """16 threads, 4 connections: every thread gets its own replies."""
    backend = place.open(ManualClock(), connections=4)

    def work(thread: int) -> None:
        for n in range(25):
            say(backend, (reserve(f"{thread}-{n}", n, ROOMY), "held"), (settle(f"{thread}-{n}", n), f"settled {n}"))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    say(backend, (Look((ROOMY,)), f"meters {16 * sum(range(25))}/0/0"))
    say(backend, (Verify(), "verified 800 entries, 1 meters, 0 open"))
    backend.close()


def test_200_tasks_with_4_connections(place: Place) -> None:
    """Tasks wait for a connection, each within its deadline; nobody is told that there are too many."""
    backend = place.open(ManualClock(), connections=4)
    before = _clients(place)

    async def calls() -> list[Outcome]:
        tasks = [backend.aexecute(reserve(f"r{n}", 1, TEN)) for n in range(200)]
        outcomes = await asyncio.gather(*tasks)
        assert _clients(place) - before <= 4
        return list(outcomes)

    outcomes = asyncio.run(calls())
    assert sum(isinstance(each, Held) for each in outcomes) == 10
    assert sum(isinstance(each, Denied) for each in outcomes) == 190
    backend.close()


def test_one_event_loop_after_the_other(place: Place) -> None:
    """asyncio.run twice with one backend, and threads between: no loop uses another's connections or leaves any."""
    backend = place.open(ManualClock())
    before = _clients(place)
    for n in range(3):
        assert told(asyncio.run(backend.aexecute(reserve(f"a{n}", 1, ROOMY)))) == "held"
        say(backend, (reserve(f"s{n}", 1, ROOMY), "held"))
    backend.close()
    assert _until(lambda: _clients(place) == before)


def test_two_event_loops_at_once(place: Place) -> None:
    """Each in a thread of its own, with the same backend."""
    backend = place.open(ManualClock())

    async def calls(name: str) -> None:
        for first in range(0, 100, 20):
            names = [f"{name}-{n}" for n in range(first, first + 20)]
            outcomes = await asyncio.gather(*(backend.aexecute(reserve(id, 1, ROOMY)) for id in names))
            assert [each.record.id for each in outcomes if isinstance(each, Held)] == names

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: asyncio.run(calls(name)), ("one", "two")))
    say(backend, (Look((ROOMY,)), "meters 0/200/0"))
    backend.close()


def _until(true: Any) -> bool:
    """Whether it comes true: a server closes connections when it gets to it."""
    event = threading.Event()
    return any(true() or event.wait(0.02) for _ in range(250))


# Tasks that are cancelled


async def test_cancelled_tasks_leave_their_connections_usable(place: Place) -> None:
    """Cancelled at any of its steps, a command is carried out to its end, and the next one gets its own reply."""
    backend = place.open(ManualClock(), connections=4)
    for n in range(60):
        task = asyncio.ensure_future(backend.aexecute(reserve(f"r{n}", 1, ROOMY)))
        for _ in range(n % 12):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert told(await backend.aexecute(Look((TEN,)))) == "meters 0/0/0"
    outcomes = await asyncio.gather(*(backend.aexecute(reserve(f"r{n}", 1, ROOMY)) for n in range(60)))
    assert {type(each) for each in outcomes} == {Held}
    assert told(await backend.aexecute(Look((ROOMY,)))) == "meters 0/60/0"
    assert told(await backend.aexecute(Verify())) == "verified 60 entries, 1 meters, 60 open"
    backend.close()


async def test_who_is_cancelled_while_it_waits_can_release(place: Place) -> None:
    """The reply is late, the task is cancelled: what it sent counts, and its release finds it."""
    with Proxy(place.server.port) as proxy:
        backend = place.open(ManualClock(), port=proxy.port)
        assert told(await backend.aexecute(reserve("first", 1, TEN))) == "held"
        proxy.fail("delay", on=b"late", seconds=0.2)
        task = asyncio.ensure_future(backend.aexecute(reserve("late", 5, TEN)))
        while not proxy.happened:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert told(await backend.aexecute(release("late"))) == "released"
        assert told(await backend.aexecute(Look((TEN,)))) == "meters 0/1/0"
        backend.close()


# Protocols


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols(place: Place, protocol: int, mode: str) -> None:
    """What a server of either protocol says reads the same: nested arrays, sorted sets, maps, numbers."""
    backend = RedisBackend(
        f"{place.server.url}?protocol={protocol}", namespace=place.namespace, clock=ManualClock(), deadline=5
    )
    warned = cap("told", 3, "warn")
    with driven(backend, mode) as execute:
        assert told(execute(reserve("r1", 6, TEN, warned, thresholds=(50,)))) == "held, passing told"
        assert told(execute(reserve("r2", 5, TEN))) == "denied ten:in_flight"
        assert told(execute(settle("r1", 5))) == "settled 5, crossing ten@50% told@50%"
        assert told(execute(Refusals())) == "refusals ten*1@0"
        assert sorted(told(execute(Alerts())).split()) == ["alerts", "ten:50%@0", "told:50%@0"]
        assert told(execute(Verify())) == "verified 2 entries, 2 meters, 0 open"


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, and its key."""
    program = shutil.which("openssl")
    assert program, "the openssl command makes the certificate of this test"
    folder = tmp_path_factory.mktemp("tls")
    key, made = folder / "key.pem", folder / "certificate.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([program, *words.split(), "-keyout", key, "-out", made], check=True, capture_output=True)
    return made, key


@pytest.fixture
def tls_port(certificate: tuple[Path, Path], place: Place) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with Proxy(place.server.port, tls=context) as proxy:
        yield proxy.port


@pytest.mark.parametrize("mode", MODES)
def test_tls(certificate: tuple[Path, Path], tls_port: int, place: Place, mode: str) -> None:
    """rediss:// with the authority that signed the server's certificate."""
    url = f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate[0]}"
    with driven(RedisBackend(url, namespace=place.namespace, clock=ManualClock(), deadline=5), mode) as execute:
        assert told(execute(reserve("r1", 6, TEN))) == "held"
        assert told(execute(settle("r1", 5))) == "settled 5"
        assert told(execute(Verify())) == "verified 2 entries, 1 meters, 0 open"


@pytest.mark.parametrize("mode", MODES)
def test_a_certificate_that_nobody_knows_is_refused(tls_port: int, place: Place, mode: str) -> None:
    backend = RedisBackend(f"rediss://:s3cret@127.0.0.1:{tls_port}/0", namespace=place.namespace, deadline=5)
    with driven(backend, mode) as execute, pytest.raises(BackendUnavailable, match=r"(?i)certificate") as why:
        execute(reserve("r1", 6, TEN))
    assert "s3cret" not in str(why.value)
