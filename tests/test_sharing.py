"""What one process has learned of the length of replies, others know: through the store, and never in a call."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from capguard import Guard
from capguard.habits import ENOUGH
from tests.backends.servers import servers, shared
from tests.kit import POLICY

CHAT = {"user": "u1", "feature": "chat", "model": "big", "prompt": "x"}
REPLY = {"model": "big", "usage": {"prompt_tokens": 1, "completion_tokens": 100}}


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    server = shared(servers()[0])
    with server.client() as client:
        client.flushall()
    return server.url


def reply(guard: Guard, times: int) -> None:
    for _ in range(times):
        guard.settle(guard.reserve(**CHAT), REPLY)


def how(guard: Guard) -> str:
    """How the output of a call without a limit is estimated."""
    guard.release(guard.reserve(**CHAT, id=f"look-{time.monotonic_ns()}"))
    return [entry.body["facts"]["how_output"] for entry in guard.entries() if entry.kind == "reserve"][-1]


def test_a_process_that_ends_leaves_what_it_learned(url: str) -> None:
    """The next one knows it after its first reply."""
    policy = {**POLICY, "failure": {"deadline": 5}}
    with Guard(url, policy=policy) as before:
        reply(before, ENOUGH)
    with Guard(url, policy=policy) as guard:
        assert how(guard) != "history"
        reply(guard, 1)
        for _ in range(200):
            if how(guard) == "history":
                break
            time.sleep(0.05)
        assert how(guard) == "history"


def test_a_store_that_does_not_answer_disturbs_nobody(url: str) -> None:
    """Shared later, or never."""
    with Guard(url, policy=POLICY) as guard:
        reply(guard, 1)
        sharing = guard._sharing
        assert sharing is not None
        sharing._backend = Guard("redis://127.0.0.1:1/0", policy=POLICY)._backend
        sharing.now()
        sharing._backend = guard._backend
