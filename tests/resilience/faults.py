"""What can happen to a store, each really done to a real one: `with fault(place):` it is away, after it it is back."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import redis

from capguard.testing.proxy import Fault, Proxy
from tests.backends.servers import Server


class Place(NamedTuple):
    """A redis-server, the proxy before it, and the URL that leads through it."""

    server: Server
    proxy: Proxy

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.proxy.port}/0"


@contextmanager
def refused(place: Place) -> Iterator[None]:
    place.proxy.refuse()
    yield
    place.proxy.accept()


@contextmanager
def killed(place: Place) -> Iterator[None]:
    place.server.kill()
    yield
    place.server.start()


@contextmanager
def frozen(place: Place) -> Iterator[None]:
    place.server.freeze()
    try:
        yield
    finally:
        place.server.thaw()


def network(fault: Fault, seconds: float = 0) -> Callable[[Place], contextlib.AbstractContextManager[None]]:
    @contextmanager
    def happens(place: Place) -> Iterator[None]:
        place.proxy.fail(fault, times=1_000_000, seconds=seconds)
        yield
        place.proxy.heal()
        place.proxy.refuse()  # connections that met it stay as they are
        place.proxy.accept()

    return happens


def setting(away: dict[str, str], back: dict[str, str]) -> Callable[[Place], contextlib.AbstractContextManager[None]]:
    @contextmanager
    def happens(place: Place) -> Iterator[None]:
        with place.server.client() as client:
            for name, value in away.items():
                client.config_set(name, value)
            yield
            for name, value in back.items():
                client.config_set(name, value)

    return happens


@contextmanager
def demoted(place: Place) -> Iterator[None]:
    """A replica of nobody that is there: READONLY to whoever writes."""
    with place.server.client() as client:
        client.replicaof("127.0.0.1", 1)
        yield
        client.replicaof("NO", "ONE")


@contextmanager
def no_permission(place: Place) -> Iterator[None]:
    with place.server.client() as client:
        client.acl_setuser("default", enabled=True, nopass=True, keys=["*"], categories=["+@all", "-@scripting"])
        yield
        client.acl_setuser("default", enabled=True, nopass=True, keys=["*"], categories=["+@all"])


@contextmanager
def no_password(place: Place) -> Iterator[None]:
    with setting({"requirepass": "secret"}, {"requirepass": ""})(place):
        place.proxy.refuse()  # connections that are there stay what they are
        place.proxy.accept()
        yield


@contextmanager
def busy(place: Place) -> Iterator[None]:
    """A script of somebody else that does not end: BUSY."""

    def endless() -> None:
        with place.server.client() as client, contextlib.suppress(redis.RedisError):
            client.eval("while true do end", 0)

    with place.server.client() as client:
        client.config_set("lua-time-limit", "50")
        thread = threading.Thread(target=endless)
        thread.start()
        while True:
            try:
                client.ping()
            except redis.RedisError:
                break
        yield
        client.script_kill()
        thread.join()


REDIS: dict[str, Callable[[Place], contextlib.AbstractContextManager[None]]] = {
    "refused": refused,
    "killed": killed,
    "stands still": frozen,
    "replies lost": network("reset"),
    "replies never come": network("black hole"),
    "commands never arrive": network("half-open"),
    "slow": network("delay", seconds=3),
    "READONLY": demoted,
    "NOPERM": no_permission,
    "NOAUTH": no_password,
    "NOREPLICAS": setting({"min-replicas-to-write": "1"}, {"min-replicas-to-write": "0"}),
    "BUSY": busy,
}


# SQLite


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program holds the file."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def deleted(path: Path) -> Iterator[None]:
    aside = path.with_name("aside")
    path.rename(aside)
    yield
    aside.rename(path)


@contextmanager
def replaced(path: Path) -> Iterator[None]:
    aside = path.with_name("aside")
    path.rename(aside)
    path.touch()
    yield
    aside.rename(path)


_OUTBOX = 16_384
"""Bytes that the outbox may take while the log may not grow."""


@contextmanager
def disk_full(path: Path) -> Iterator[None]:
    """The kernel refuses to let the file's log grow; the outbox is on another disk, as it should be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert path.with_name(f"{path.name}-wal").stat().st_size > _OUTBOX
    resource.setrlimit(resource.RLIMIT_FSIZE, (_OUTBOX, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


SQLITE: dict[str, Callable[[Path], contextlib.AbstractContextManager[None]]] = {
    "locked": locked,
    "deleted": deleted,
    "replaced": replaced,
    "disk full": disk_full,
}
