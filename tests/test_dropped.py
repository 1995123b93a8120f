"""What the garbage collector finds, it finds anywhere: also inside a lock of the ledger's."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from capguard import Guard, capped
from capguard.integrations.openai import cap
from capguard.testing import ManualClock
from tests.kit import CALL, MESSAGES, POLICY, kinds, last

WORDS = [{"choices": [{"index": 0, "delta": {"content": "one "}}]}] * 4

Guarded = Callable[..., Any]


class CollectingClock(ManualClock):
    """The ledger in memory asks for the time while it holds its lock; the Guard does so before."""

    collects = 0

    def __call__(self) -> int:
        if self.collects:
            self.collects -= 1
            gc.collect()
        return super().__call__()


class Ring:
    """Keeps something in a ring of references, which only the collector takes apart."""

    def __init__(self, kept: object):
        self.kept = kept
        self.itself = self


@pytest.fixture
def collecting() -> Iterator[tuple[Guard, CollectingClock]]:
    gc.disable()
    clock = CollectingClock()
    with Guard("memory://", policy=POLICY, clock=clock) as guard:
        yield guard, clock
    gc.enable()


def metered(guard: Guard, _: str) -> Any:
    with guard.call(**CALL) as call:
        return call.stream(iter(WORDS))


def in_a_generator(guard: Guard, _: str) -> Any:
    """A generator whose own end closes the stream, as adapters have them."""

    def reads() -> Iterator[Any]:
        with guard.call(**CALL) as call, call.stream(iter(WORDS)) as stream:
            yield from stream

    return reads()


def decorated(guard: Guard, _: str) -> Any:
    @capped(guard, user="user", model="model")
    def words(user: str, model: str = "big", max_tokens: int = 20) -> Iterator[Any]:
        yield from WORDS

    return words("u1")


def of_the_sdk(guard: Guard, url: str) -> Any:
    client = cap(openai.OpenAI(base_url=url, api_key="any"), guard, user="u1")
    return iter(client.chat.completions.create(model="big", messages=MESSAGES, max_tokens=100, stream=True))


@pytest.mark.timeout(30)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("make", [metered, in_a_generator, decorated, of_the_sdk])
def test_a_stream_that_is_collected_inside_the_ledger(
    make: Guarded, collecting: tuple[Guard, CollectingClock], provider: Any
):
    """It is booked a moment later by another thread: the ledger does not wait for itself."""
    guard, clock = collecting
    provider.provider.reset()
    stream = make(guard, provider.url)
    next(stream)
    Ring(stream)
    del stream
    clock.collects = 3
    guard.status(user="u1")
    guard.flush()
    assert kinds(guard) == ["reserve", "settle"]
    assert set(last(guard).flags) == {"counted", "uncertain"}


def test_a_stream_that_is_let_go_of_is_booked_at_once():
    """Without the collector there is nothing to wait for."""
    with Guard("memory://", policy=POLICY) as guard:
        stream = metered(guard, "")
        del stream
        assert kinds(guard) == ["reserve", "settle"]


def test_close_waits_for_what_was_collected(tmp_path: Any):
    """A program that ends in time leaves no hold behind."""
    url = f"sqlite:///{tmp_path}/ledger.db?timeout=30"
    with Guard(url, policy=POLICY) as guard:
        Ring(metered(guard, ""))
        gc.collect()
    with Guard(url, policy=POLICY) as guard:
        assert kinds(guard) == ["reserve", "settle"]


def test_many_at_once_from_many_threads():
    """Each is booked once, whichever thread finds it."""
    with Guard("memory://", policy=POLICY) as guard:

        def drop() -> None:
            for _ in range(5):
                Ring(metered(guard, ""))
                gc.collect()

        threads = [threading.Thread(target=drop) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        guard.flush()
        assert (kinds(guard).count("reserve"), kinds(guard).count("settle")) == (20, 20)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12: that it has threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_after_a_fork(tmp_path: Any):
    """A child books what it drops itself."""
    with Guard(f"sqlite:///{tmp_path}/ledger.db?timeout=30", policy=POLICY) as guard:
        Ring(metered(guard, ""))
        gc.collect()
        guard.flush()
        child = os.fork()
        if not child:
            try:
                Ring(metered(guard, ""))
                gc.collect()
                guard.flush()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert kinds(guard) == ["reserve", "settle"] * 2
