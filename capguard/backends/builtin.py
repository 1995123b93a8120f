"""The backends that ship with capguard, as the plugin that they are."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from capguard.backends.base import Backend, Clock
from capguard.plugins.hookspecs import hookimpl

URLS = "sqlite:///capguard.db, memory://, redis://, rediss://, redis+sentinel://, redis+cluster://"
_REDIS = re.compile(r"rediss?(\+sentinel|\+cluster)?")
_NAMESPACE = re.compile(r"[A-Za-z0-9_-]{1,64}")


@hookimpl
def capguard_backend(url: object, namespace: str, clock: Clock) -> Backend | None:
    """`memory://`, `sqlite://`, `redis://` and its kin, and clients of redis-py."""
    if not isinstance(url, str):
        return _redis(url, namespace, clock) if is_redis_client(url) else None
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        from capguard.backends.memory import MemoryBackend

        return MemoryBackend(clock)
    if _REDIS.fullmatch(scheme):
        return _redis(url, namespace, clock)
    return _sqlite(url, namespace, clock) if scheme == "sqlite" else None


def is_redis_client(value: object) -> bool:
    """Whether this is a client of redis-py, sync or async: its module says so, and nothing is imported."""
    return any(cls.__module__.split(".")[0] == "redis" for cls in type(value).__mro__)


def _redis(where: object, namespace: str, clock: Clock) -> Backend:
    try:
        from capguard.backends.redis.opening import open_client, open_url
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("a ledger in Redis needs the extra: capguard[redis]") from error
    if isinstance(where, str):
        return open_url(where, _checked(namespace), clock)
    return open_client(where, _checked(namespace), clock)


def _sqlite(url: str, namespace: str, clock: Clock) -> Backend:
    from capguard.backends.sqlite import SQLiteBackend

    parts = urlsplit(url)
    if parts.netloc or len(parts.path) < 2:
        raise ValueError(
            f"{url!r}: allowed: sqlite:///capguard.db (three slashes, relative) or sqlite:////var/lib/capguard.db"
        )
    options = dict(parse_qsl(parts.query))
    if unknown := options.keys() - {"synchronous", "timeout"}:
        raise ValueError(f"{url!r}: unknown option {', '.join(sorted(unknown))}; allowed: synchronous, timeout")
    path = _in_namespace(Path(unquote(parts.path[1:])), namespace)
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{url!r}: {path.absolute().parent} is no folder; allowed: a file in a folder that is there")
    synchronous = options.get("synchronous", "normal")
    timeout = _seconds(url, options["timeout"]) if "timeout" in options else None
    return SQLiteBackend(path, clock, synchronous=synchronous, timeout=timeout)


def _in_namespace(path: Path, namespace: str) -> Path:
    """A namespace of its own is a file of its own: `capguard.db`, `capguard.shop.db`."""
    return path if _checked(namespace) == "default" else path.with_name(f"{path.stem}.{namespace}{path.suffix}")


def _checked(namespace: str) -> str:
    if not _NAMESPACE.fullmatch(namespace):
        raise ValueError(f"namespace: {namespace!r:.60}; allowed: 1 to 64 letters, digits, _ and -")
    return namespace


def _seconds(url: str, text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text, re.ASCII):
        raise ValueError(f"{url!r}: timeout {text!r}; allowed: seconds, 0 to 9999")
    return float(text)
