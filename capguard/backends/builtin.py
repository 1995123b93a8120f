"""The backends that ship with capguard, as the plugin that they are."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from capguard.backends.base import Backend, Clock
from capguard.plugins.hookspecs import hookimpl

_REDIS = ("redis", "rediss")
_NAMESPACE = re.compile(r"[A-Za-z0-9_-]{1,64}")


@hookimpl
def capguard_backend(url: str, namespace: str, clock: Clock) -> Backend | None:
    """`memory://`, `sqlite://`, `redis://` and `rediss://`."""
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        from capguard.backends.memory import MemoryBackend

        return MemoryBackend(clock)
    if scheme in _REDIS:
        return _redis(url, namespace, clock)
    return _sqlite(url, namespace, clock) if scheme == "sqlite" else None


def _redis(url: str, namespace: str, clock: Clock) -> Backend:
    try:
        from capguard.backends.redis import RedisBackend
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{urlsplit(url).scheme}:// needs the extra: capguard[redis]") from error
    return RedisBackend(url, namespace=_checked(namespace), clock=clock)


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
    synchronous = options.get("synchronous", "normal")
    return SQLiteBackend(path, clock, synchronous=synchronous, timeout=_seconds(url, options.get("timeout", "5")))


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
