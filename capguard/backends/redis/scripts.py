"""The Lua of the ledger: each script is a command's own file behind the files that it stands on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha1
from importlib import resources

from capguard.backends.redis.linking import linked

_STANDS_ON = {
    "reserve": ("store", "paying", "ending", "judging", "reserving", "plain", "plain_reserve"),
    "settle": ("store", "paying", "ending", "settling", "plain", "plain_settle"),
    "release": ("store", "paying", "ending"),
    "extend": ("store", "paying", "ending", "judging"),
    "sweep": ("store", "paying", "ending"),
    "publish": ("store", "paying", "ending"),
    "look": ("store", "paying", "ending"),
    "accept": ("store",),
    "fetch": ("store",),
    "grow": ("store",),
    "range": ("store",),
    "scan": ("store",),
    "start": ("store",),
    "steer": ("store",),
}
_MAY_USE_THE_LAST_MEMORY = ("settle", "release", "extend", "sweep")


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text, and the digest by which a server that has it knows it."""

    text: str
    sha: str


@lru_cache
def script(name: str, *, flags: bool) -> Script:
    """A script by its name. With `flags`, for Redis 7 and later: a full server still takes what ends a call."""
    files = resources.files("capguard.backends.redis").joinpath("lua")
    parts = (*_STANDS_ON[name], name)
    text = linked("\n".join(files.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in parts))
    if flags and name in _MAY_USE_THE_LAST_MEMORY:
        text = f"#!lua flags=allow-oom\n{text}"
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())
