"""Rebuilding a ledger that its server has lost, or lost a part of, from its archive and from what is left of it.

While it is written, the store has no epoch: every process takes it for lost until the last command, which gives it one.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from capguard.backends.redis.archive import Archive
from capguard.backends.redis.archiving import KEPT_MS
from capguard.backends.redis.journal import CHUNK
from capguard.backends.redis.keys import bucket_of, row_of
from capguard.backends.redis.packing import encode
from capguard.backends.redis.store import Store, Talk, answered
from capguard.backends.redis.wire import read_line, text
from capguard.ledger.outcomes import Line
from capguard.ledger.rebuild import Call, Rebuild
from capguard.ledger.windows import FOREVER_MS

HOLD_MS = 120_000
"""How long a call that was in flight is held from now on: how long it was to be held is not in the journal."""

_FULL = 56
"""Rows of a bucket, on average, when the store makes one more (lua/grow.lua)."""

_WORDS = 1000
"""Words of one command at most, or keys."""


class Restored(NamedTuple):
    """What a store holds again: entries in its journal, those that only it had, meters, calls in flight, profiles."""

    entries: int
    joined: int
    meters: int
    held: int
    profiles: int


def restoring(store: Store, archive: Archive) -> Talk[Restored]:
    """Make the store anew from every entry that the archive or the store has.

    Entries that only the store has are archived first. May be repeated, however it ended. Raises ValueError where
    entries are in neither: then the store was not touched.
    """
    joined = yield from _joined(store, archive)
    yield from _stopped(store)
    joined += yield from _joined(store, archive)  # what came in meanwhile
    rebuild = _rebuilt(archive)
    now_ms = yield from store.now()
    epoch = secrets.token_hex(8)
    yield from _cleared(store, epoch)
    yield from _written(store, rebuild, archive, epoch, now_ms)
    store.forget()
    held = sum(call.state == "held" for call in rebuild.calls.values())
    return Restored(rebuild.last, joined, len(_live(rebuild)), held, len(rebuild.profiles))


def _joined(store: Store, archive: Archive) -> Talk[int]:
    joined, first = 0, "-"
    while found := answered((yield ("XRANGE", store.keys.log, first, "+", "COUNT", CHUNK))):
        joined += archive.join([(text(fields[11]), read_line((id, fields))) for id, fields in found])
        first = f"({text(found[-1][0])}"
    return joined


def _stopped(store: Store) -> Talk[None]:
    """From now on nobody uses the store, and nobody takes it for an empty one."""
    answered((yield ("HSET", store.keys.open, "", "")))
    answered((yield ("HDEL", store.keys.meta, "epoch")))


def _rebuilt(archive: Archive) -> Rebuild:
    rebuild = Rebuild()
    while lines := archive.lines(rebuild.last + 1, CHUNK):
        for line in lines:
            rebuild.add(line)
    return rebuild


def _cleared(store: Store, epoch: str) -> Talk[None]:
    """Empty it, but for what the journal does not tell: refusals and alerts."""
    keys = store.keys
    answered((yield ("DEL", keys.log, keys.due, keys.users, keys.policies)))
    for key in (keys.users, keys.policies):
        answered((yield ("HSET", key, "", epoch)))
    answered((yield ("DEL", keys.open)))
    answered((yield ("HSET", keys.open, "", epoch)))
    for start in range(0, FOREVER_MS, _WORDS):  # how many buckets there were may be lost
        buckets = [keys.bucket(number) for number in range(start, start + _WORDS)]
        if not answered((yield ("DEL", *buckets))):
            return


def _written(store: Store, rebuild: Rebuild, archive: Archive, epoch: str, now_ms: int) -> Talk[None]:
    keys = store.keys
    rows = [*_meter_rows(rebuild), *_id_rows(rebuild)]
    size = max(1, -(-len(rows) // _FULL))
    buckets: dict[int, list[Any]] = defaultdict(list)
    for field, value in rows:
        buckets[bucket_of(text(field[:8]), size)] += (field, value)
    for number in range(size):
        yield from _hset(keys.bucket(number), ["e", epoch, *buckets[number]])
    expires = now_ms + HOLD_MS
    calls, users, policies = rebuild.calls.items(), rebuild.profiles.items(), rebuild.policies.items()
    yield from _hset(keys.open, _flat((id, _open_text(call, expires)) for id, call in calls))
    yield from _many("ZADD", keys.due, [FOREVER_MS, "", *_flat((_due(call, expires), id) for id, call in calls)])
    yield from _hset(keys.users, _flat((user, f"{each.revision}:{encode(each.body)}") for user, each in users))
    yield from _hset(keys.policies, _flat((revision, encode(each._asdict())) for revision, each in policies))
    mark = secrets.token_hex(6)
    yield from _logged(store, rebuild, archive, now_ms, mark)
    policy = max(rebuild.policies, default=0)
    meta = {"follows": "any", "seq": rebuild.last, "mark": mark, "now": rebuild.at_ms, "size": size, "rows": len(rows)}
    answered(
        (yield ("HSET", keys.meta, *_flat(meta.items()), "policy", policy, "layout", store.layout, "epoch", epoch))
    )


def _logged(store: Store, rebuild: Rebuild, archive: Archive, now_ms: int, mark: str) -> Talk[None]:
    """The entries that a store keeps beside its archive: see `archiving`."""
    made = [call.made for call in rebuild.calls.values()]
    young = archive.first_since(now_ms - KEPT_MS)
    first = min([rebuild.last, *made, *([young] if young is not None else [])])
    while lines := archive.lines(max(1, first), CHUNK):
        for line in lines:
            answered((yield ("XADD", store.keys.log, f"{line.seq}-0", *_entry(line, mark))))
        first = lines[-1].seq + 1


def _entry(line: Line, mark: str) -> Sequence[Any]:
    return ("t", line.at_ms, "k", line.kind, "i", line.id, "u", line.user or "", "b", encode(line.body), "n", mark)


def _hset(key: str, words: list[Any]) -> Talk[None]:
    yield from _many("HSET", key, words)


def _many(command: str, key: str, words: list[Any]) -> Talk[None]:
    for start in range(0, len(words), _WORDS):
        answered((yield (command, key, *words[start : start + _WORDS])))


def _flat(pairs: Iterable[tuple[Any, Any]]) -> list[Any]:
    return list(chain.from_iterable(pairs))


def _live(rebuild: Rebuild) -> dict[tuple[str, int], Any]:
    return {key: meter for key, meter in rebuild.meters.items() if meter.gone_ms > rebuild.at_ms}


def _meter_rows(rebuild: Rebuild) -> Iterator[tuple[bytes, str]]:
    """The rows of meters as lua/store.lua has them."""
    windows: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    runs: dict[str, tuple[int, int]] = {}
    for (name, period), meter in _live(rebuild).items():
        if meter.rolling:
            windows[name].append((period, meter))
            continue
        if meter.idle:
            runs[name] = max(runs.get(name, (0, 0)), (period, meter.gone_ms))
        sums = ":".join(str(amount or "") for amount in meter.sums)
        yield name.encode() + period.to_bytes(6, "big"), f"{sums}:{_time(meter.gone_ms)}"
    for name, (period, gone_ms) in runs.items():
        yield f"{name}*".encode(), f"{period}:{_time(gone_ms)}"
    for name, buckets in windows.items():
        gone_ms = max(meter.gone_ms for _, meter in buckets)
        texts = ["{},{},{},{};".format(period, *meter.sums) for period, meter in buckets]
        yield name.encode(), f"{gone_ms}|{''.join(texts)}"


def _id_rows(rebuild: Rebuild) -> Iterator[tuple[bytes, str]]:
    for id, each in rebuild.ended.items():
        numbers = f"{each.forgotten_ms:x}:{each.made:x}:{each.entry:x}:{each.booked.get('usd', 0)}"
        yield row_of(id).encode(), f"{each.state[0]}:{numbers}:"


def _open_text(call: Call, expires_ms: int) -> str:
    shares = ",".join(map(str, call.shares))
    return f"{call.state[0]}:{call.made}:{call.entry}:{expires_ms}::{shares}"


def _due(call: Call, expires_ms: int) -> int:
    return expires_ms + call.grace_ms if call.state == "held" else call.ended_ms + call.retention_ms


def _time(ms: int) -> str:
    """As lua/store.lua writes one: whole minutes as such, never as nothing."""
    if ms >= FOREVER_MS:
        return ""
    return str(ms // 60_000 if ms % 60_000 == 0 else ms)
