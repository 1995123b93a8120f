"""Processes that die, end, fork or are stopped: what was known is booked, once, by whoever comes next."""

from __future__ import annotations

import os
import signal
import time
from decimal import Decimal
from pathlib import Path

import pytest

from capguard import Guard
from capguard.testing.proxy import Proxy
from tests.backends.servers import Server
from tests.resilience.kit import Program, booked, causes, meter, policy, waiting

FIRST = """
import os, signal
from capguard import Guard
from tests.resilience.kit import policy
guard = Guard(args[0], policy=policy())
def stop(word):
    print(word, flush=True)
    input()
"""
STAGES = {
    "after the reserve": (
        'guard.reserve(user="u1", cost="0.5", id="mine"); stop("go"); stop("dead")',
        {},
    ),
    "after the settle was kept": (
        'guard.reserve(user="u1", cost="0.5", id="mine"); stop("go");guard.settle("mine", cost="0.4"); stop("dead")',
        {"mine": "0.4"},
    ),
    "after it was let through": (
        (
            'guard.allow(user="u1", amount=0, id="first"); stop("go");'
            'guard.reserve(user="u1", cost="0.5", id="mine"); stop("dead")'
        ),
        {"first": "0", "mine": "0.5"},
    ),
    "after what was let through was settled": (
        (
            'guard.allow(user="u1", amount=0, id="first"); stop("go");'
            'guard.reserve(user="u1", cost="0.5", id="mine"); guard.settle("mine", cost="0.3"); stop("dead")'
        ),
        {"first": "0", "mine": "0.3"},
    ),
    "after what was let through was released": (
        (
            'guard.allow(user="u1", amount=0, id="first"); stop("go");'
            'guard.reserve(user="u1", cost="0.5", id="mine"); guard.release("mine"); stop("dead")'
        ),
        {"first": "0"},
    ),
}


def comes_to(guard: Guard, expected: dict[str, str]) -> None:
    """The books, once what others have left is delivered."""
    wanted = {id: Decimal(cost) for id, cost in expected.items()}
    for _ in range(200):
        guard.flush(0.05)
        if booked(guard) == wanted:
            break
        time.sleep(0.05)
    assert booked(guard) == wanted


@pytest.mark.parametrize("stage", STAGES)
def test_killed(own: Server, stage: str) -> None:
    """kill -9 with the store away: the next process of this host books what that one knew. What it did not know is
    covered by its hold, which `on_expiry` books."""
    lines, expected = STAGES[stage]
    with Proxy(own.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        with Program(FIRST + lines, url) as program:
            assert program.says() == "go"
            proxy.refuse()
            program.goes_on()
            assert program.says() == "dead"
            program.kill()
        proxy.accept()
        with Guard(url, policy=policy()) as guard:
            comes_to(guard, expected)
            held = Decimal("0.5") if stage == "after the reserve" else 0
            assert meter(guard)[:2] == (sum(map(Decimal, expected.values())), held)
            assert guard.verify()


def test_two_that_deliver_the_same(own: Server) -> None:
    """Many start at once after a crash: one takes the file, and if two did, an id counts once."""
    with Proxy(own.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        lines = """
for number in range(40):
    guard.reserve(user="u1", cost="0.1", id=f"r{number}")
stop("go")
for number in range(40):
    guard.settle(f"r{number}", cost="0.1")
stop("dead")
"""
        with Program(FIRST + lines, url) as program:
            program.says()
            proxy.refuse()
            program.goes_on()
            program.says()
            program.kill()
        proxy.accept()
        starts = "stop('on')"
        with (
            Program(FIRST + starts, url) as one,
            Program(FIRST + starts, url) as two,
            Guard(url, policy=policy()) as guard,
        ):
            one.says(), two.says()
            comes_to(guard, {f"r{number}": "0.1" for number in range(40)})
            assert meter(guard) == (4, 0, 0)
            assert len([entry for entry in guard.entries() if entry.kind == "settle"]) == 40


ENDINGS = {
    "the interpreter ends": ("", 0),
    "sys.exit in a block": ("sys.exit(3)", 3),
    "an error in a block": ("raise KeyboardInterrupt", None),
    "SIGTERM that is handled": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(4)); os.kill(os.getpid(), signal.SIGTERM)", 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_interpreter_that_ends(own: Server, ending: str, away: bool) -> None:
    """The Guard was never closed. What a call recorded is booked on the way out, or is on disk where nobody answers."""
    end, code = ENDINGS[ending]
    lines = f"""
with guard.call(user="u1", cost="0.5", id="mine") as call:
    stop("go")
    call.settle(cost="0.4")
    {end}
"""
    with Proxy(own.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        with Program(FIRST + lines, url) as program:
            program.says()
            if away:
                proxy.fail("half-open", times=10_000)
            program.goes_on()
            returned = program.ends()
            assert code is None or returned == code
        proxy.heal()
        with Guard(url, policy=policy()) as guard:
            comes_to(guard, {"mine": "0.4"})
            assert meter(guard) == (Decimal("0.4"), 0, 0)


INTERRUPTED = """
import signal, threading
guard.reserve(user="u1", cost="0.5", id="mine")
stop("go")
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    guard.settle("mine", cost="0.4")
except KeyboardInterrupt:
    print("interrupted", flush=True)
    os._exit(1)
"""


def test_interrupted_in_a_settle(own: Server) -> None:
    """Ctrl-C while the store lets it wait: what was to be booked is on disk."""
    with Proxy(own.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        with Program(FIRST.replace("policy()", "policy(deadline=20)") + INTERRUPTED, url) as program:
            program.says()
            proxy.fail("half-open", times=10_000)
            program.goes_on()
            assert program.says() == "interrupted"
            program.ends()
        proxy.heal()
        with Guard(url, policy=policy()) as guard:
            comes_to(guard, {"mine": "0.4"})


FORKS = """
import os
from capguard import Guard
from tests.resilience.kit import policy
guard = Guard(args[0], policy=policy(deadline=10))
guard.allow(user="u1", amount="0.1")
children = []
for number in range(4):
    child = os.fork()
    if not child:
        for _ in range(10):
            with guard.call(user="u1", cost="0.1") as call:
                call.settle(cost="0.1")
        os._exit(0)
    children.append(child)
for _ in range(10):
    guard.allow(user="u1", amount="0.1")
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
print(guard.status(user="u1").caps["c"].settled, bool(guard.verify()), flush=True)
"""


@pytest.mark.parametrize("where", ["redis", "sqlite"])
def test_forked_after_its_first_use(own: Server, tmp_path: Path, where: str) -> None:
    """As gunicorn with `preload` does: every worker opens its own connections, and all count together."""
    url = own.url if where == "redis" else f"sqlite:///{tmp_path}/ledger.db"
    with Program(FORKS, url) as program:
        assert program.says() == "5.1 True"
        assert program.ends() == 0


FORK_AWAY = """
import os
from capguard import BackendUnavailable, Guard
from tests.resilience.kit import policy, waiting
guard = Guard(args[0], policy=policy())
guard.reserve(user="u1", cost="0.5", id="parents")
guard.settle("parents", cost="0.5")
child = os.fork()
if not child:
    assert waiting(guard) == 0
    guard.reserve(user="u1", cost="0.5", id="childs")
    guard.settle("childs", cost="0.5")
    print("child", flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(waiting(guard), flush=True)
input()
"""


def test_forked_in_an_outage(state: Path) -> None:
    """A child has a file of its own, and leaves its parent's letters to the parent."""
    with Program(FORK_AWAY, "redis://127.0.0.1:1/0") as program:
        assert program.says() == "child"
        assert program.says() == "1"
        assert sorted(path.name for path in state.rglob("*.outbox")) == ["slot-0.outbox", "slot-1.outbox"]
        program.kill()


@pytest.mark.soak
def test_killed_again_and_again(own: Server) -> None:
    """Processes that are killed at random while the store comes and goes: every settle that returned is booked once."""
    acknowledged: set[str] = set()
    lines = """
import uuid
while True:
    id = uuid.uuid4().hex
    try:
        guard.reserve(user="u1", cost="0.001", id=id)
        guard.settle(id, cost="0.001")
    except Exception as error:
        continue
    print(id, flush=True)
"""
    rounds = 3 * int(os.environ.get("CAPGUARD_SOAK", "1"))
    with Proxy(own.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        for number in range(rounds):
            with Program(FIRST + lines, url) as program:
                for count in range(40):
                    acknowledged.add(program.says())
                    if count == 10 + number % 7:
                        proxy.refuse()
                    if count == 30:
                        proxy.accept()
                program.kill(signal.SIGKILL)
        with Guard(url, policy=policy(deadline=5)) as guard:
            for _ in range(200):
                guard.flush(0.1)
                if acknowledged <= booked(guard).keys():
                    break
                time.sleep(0.05)
            assert acknowledged <= booked(guard).keys()
            settles = [entry.id for entry in guard.entries() if entry.kind == "settle"]
            assert len(settles) == len(set(settles))
            assert set(causes(guard).values()) <= {None, "outage"}
            assert waiting(guard) == 0
            assert guard.verify()
