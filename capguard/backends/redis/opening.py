"""A Redis backend from a URL with its options, or from a client of the application's."""

from __future__ import annotations

import re
from pathlib import Path

from capguard.backends.base import Clock
from capguard.backends.redis.backend import RedisBackend
from capguard.backends.redis.target import read_client, read_url

_SECONDS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?", re.ASCII)

OPTIONS = ("archive", "connections", "deadline", "shard_by", "strict")
SHARDED_BY = ("user", "team", "org")


def open_url(url: str, namespace: str, clock: Clock) -> RedisBackend:
    """A URL with options: `connections` (at most at once, 64), `deadline` (seconds; the policy's), `strict` (1),
    `archive` (the file that `capguard archive` has moved the journal's older part to), `shard_by` (user, team or org).

    Raises ValueError that names what is wrong, without the password.
    """
    target, options = read_url(url)
    if unknown := options.keys() - set(OPTIONS):
        raise ValueError(f"{target}: unknown option {', '.join(sorted(unknown))}; allowed: {', '.join(OPTIONS)}")
    deadline, connections = options.get("deadline"), options.get("connections", "64")
    if deadline is not None and (not _SECONDS.fullmatch(deadline) or float(deadline) == 0):
        raise ValueError(f"{target}: deadline {deadline!r:.20}; allowed: seconds, more than 0, below 1000")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", connections, re.ASCII):
        raise ValueError(f"{target}: connections {connections!r:.20}; allowed: 1 to 99999")
    shard_by = options.get("shard_by", "")
    if shard_by and shard_by not in SHARDED_BY:
        raise ValueError(f"{target}: shard_by {shard_by!r:.20}; allowed: {', '.join(SHARDED_BY)}")
    strict = options.get("strict", "").lower() in ("1", "true", "yes", "on")
    return RedisBackend(
        target,
        namespace=namespace,
        clock=clock,
        strict=strict,
        deadline=None if deadline is None else float(deadline),
        connections=int(connections),
        archive=Path(options["archive"]).absolute() if options.get("archive") else None,
        shard_by=shard_by,
    )


def open_client(client: object, namespace: str, clock: Clock) -> RedisBackend:
    """On the servers of a `redis.Redis`, sync or async: its settings are cloned, its time-outs and retries are not."""
    return RedisBackend(read_client(client), namespace=namespace, clock=clock)
