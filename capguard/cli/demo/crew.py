"""The processes of the demo: a provider, and workers that share one ledger and no memory but a byte per request."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.synchronize import Event
from threading import BrokenBarrierError
from urllib.parse import urlsplit

from capguard.cli.demo.traffic import Ask
from capguard.cli.demo.worker import Post, work
from capguard.errors import BackendUnavailable, CapguardError

_STARTS_WITHIN = 60
_ENDS_WITHIN = 10


class Crew:
    """Workers that were started together and wait for each other before the first call."""

    def __init__(self, context: SpawnContext, post: Post, todo: Sequence[Ask], workers: int):
        self.outcomes = post.outcomes
        self._post = post
        shares = [list(enumerate(todo))[first::workers] for first in range(workers)]
        self._workers = [context.Process(target=work, args=(post, share), daemon=True) for share in shares]

    def start(self) -> None:
        """Start the workers and wait until each is ready to call."""
        _start(self._workers)
        try:
            self._post.ready.wait(_STARTS_WITHIN)
        except BrokenBarrierError:
            self.check()
            raise CapguardError(f"the workers did not start within {_STARTS_WITHIN} s") from None

    def working(self) -> bool:
        """Whether a worker still runs."""
        return any(worker.is_alive() for worker in self._workers)

    def check(self) -> None:
        """Raise what a worker reported, if one gave up: BackendUnavailable or CapguardError."""
        if not self._post.troubles.empty():
            trouble = self._post.troubles.get()
            raise (BackendUnavailable if trouble.backend else CapguardError)(trouble.message)
        if any(worker.exitcode for worker in self._workers):
            raise CapguardError("a worker ended early; what it wrote to stderr says why")

    def stop(self) -> None:
        """No further calls; those in flight are settled."""
        self._post.stop.set()
        _end(self._workers)

    def provider_calls(self) -> int:
        """How many calls reached the provider, by its own count."""
        connection = http.client.HTTPConnection(urlsplit(self._post.provider).netloc, timeout=_ENDS_WITHIN)
        try:
            connection.request("GET", "/calls")
            return int(json.load(connection.getresponse())["calls"])
        finally:
            connection.close()


@contextmanager
def crew(ledger: str, todo: Sequence[Ask], workers: int) -> Iterator[Crew]:
    """A provider and `workers` workers, each a process of its own, ended when the block is left."""
    context = multiprocessing.get_context("spawn")
    with _provider(context) as url:
        post = Post(
            ledger=ledger,
            provider=url,
            outcomes=context.RawArray("B", len(todo)),
            ready=context.Barrier(workers + 1),
            stop=context.Event(),
            troubles=context.SimpleQueue(),
        )
        made = Crew(context, post, todo, workers)
        try:
            yield made
        finally:
            made.stop()


@contextmanager
def _provider(context: SpawnContext) -> Iterator[str]:
    here, there = context.Pipe()
    leave = context.Event()
    process = context.Process(target=_provide, args=(there, leave), daemon=True)
    _start([process])
    try:
        if not here.poll(_STARTS_WITHIN):
            raise CapguardError(f"the provider did not start within {_STARTS_WITHIN} s")
        yield here.recv()
    finally:
        leave.set()
        _end([process])


def _provide(address: Connection, leave: Event) -> None:
    from capguard.testing.provider import serve

    with serve() as fake:
        address.send(fake.anthropic_url)
        leave.wait()


def _start(processes: Sequence[SpawnProcess]) -> None:
    """Start processes that are deaf to Ctrl-C: the parent hears it and ends them in order."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for process in processes:
            process.start()
    finally:
        signal.signal(signal.SIGINT, before)


def _end(processes: Sequence[SpawnProcess]) -> None:
    """Wait for processes that were told to end; one that does not is killed."""
    for process in processes:
        if process.pid is None:
            continue
        process.join(_ENDS_WITHIN)
        if process.is_alive():
            process.kill()
            process.join()
