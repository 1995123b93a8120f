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
from capguard.backends.redis.archiving import KEPT_MS, told
from capguard.backends.redis.journal import CHUNK
from capguard.backends.redis.keys import bucket_of, row_of
from capguard.backends.redis.packing import encode
from capguard.backends.redis.store import Store, Talk, answered, new_epoch
from capguard.backends.redis.wire import read_line, text
from capguard.ledger.outcomes import Line
from capguard.ledger.rebuild import Call, Rebuild
from capguard.ledger.windows import FOREVER_MS

_FULL = 56
"""Rows of a bucket, on average, when the store makes one more (lua/grow.lua)."""

_WORDS = 1000
"""Words of one command at most, or keys."""


class Restored(NamedTuple):
    """What a store holds again: entries in its journal, those that only it had, meters, calls in flight, profiles.

    `strays` are entries of another life of the ledger, begun after the loss: they are not in the books.
    """

    entries: int
    added: int
    meters: int
    held: int
    profiles: int
    strays: tuple[Line, ...] = ()


def preparing(store: Store, archive: Archive) -> Talk[tuple[int, int]]:
    """Bring the archive up to date with what the store still has. How many entries it did not have, of how many.

    Raises ValueError where entries are in neither, or where the file is missing or another ledger's; BackendUnavailable
    where the ledger is sharded otherwise than the URL says. The store is not touched.
    """
    id, layout, newest = yield from store.identity()
    store.check_layout(layout)
    if not archive.path.exists():
        first = answered((yield ("XRANGE", store.keys.log, "-", "+", "COUNT", 1)))
        if not first or read_line(first[0]).seq != 1:
            raise ValueError(f"{archive.path}: no such file, and the journal in the store does not begin at entry 1")
    archive.create()
    same = archive.belong(id or new_epoch(), store.keys.prefix, store.layout) == id or id is None
    added, same = yield from _added(store, archive, same=same)
    if same and newest > archive.last():
        raise ValueError(f"entries {archive.last() + 1} to {newest} are neither in {archive.path} nor in the store")
    return added, archive.last()


def restoring(store: Store, archive: Archive) -> Talk[Restored]:
    """Make the store anew from every entry that the archive or the store has. May be repeated, however it ended.

    What is to be known before anything is changed, `preparing` has said. To be run by one at a time.
    """
    yield from stopped(store)
    added, _ = yield from preparing(store, archive)  # what came in meanwhile
    rebuild = _rebuilt(archive)
    now_ms = yield from store.now()
    id = archive.belong("", store.keys.prefix, store.layout)
    yield from _cleared(store, id)
    yield from _written(store, rebuild, archive, id, now_ms)
    store.forget()
    held = sum(call.state == "held" for call in rebuild.calls.values())
    counts = len(rebuild.meters), held, len(rebuild.profiles)
    return Restored(rebuild.last, added, *counts, strays=tuple(archive.strays()))


def _added(store: Store, archive: Archive, *, same: bool) -> Talk[tuple[int, bool]]:
    """Archive what the store has: as the ledger's own as long as it is the `same` one, from then on as strays.

    How many entries were new, and whether it was the same to the end.
    """
    before, first = archive.last(), "-"
    while found := answered((yield ("XRANGE", store.keys.log, first, "+", "COUNT", CHUNK))):
        lines = [(text(fields[11]), read_line((id, fields))) for id, fields in found]
        own = _own(archive, [line for _, line in lines]) if same else 0
        archive.add([line for _, line in lines[:own]])
        archive.keep_strays(lines[own:])
        same = same and own == len(lines)
        first = f"({text(found[-1][0])}"
    return archive.last() - before, same


def _own(archive: Archive, lines: Sequence[Line]) -> int:
    """How many of these the archive has, or may have next."""
    last = archive.last()
    here = {line.seq: told(line) for line in archive.lines(lines[0].seq, len(lines))}
    for count, line in enumerate(lines):
        if line.seq <= last and here.get(line.seq) != told(line):
            return count
    return len(lines)


def stopped(store: Store) -> Talk[None]:
    """From now on nobody uses the store, and nobody takes it for an empty one."""
    answered((yield ("HSET", store.keys.open, "", "")))
    answered((yield ("HDEL", store.keys.meta, "epoch")))


def _rebuilt(archive: Archive) -> Rebuild:
    rebuild = Rebuild()
    while lines := archive.lines(rebuild.last + 1, CHUNK):
        for line in lines:
            rebuild.add(line)
    rebuild.forget()
    return rebuild


def _cleared(store: Store, id: str) -> Talk[None]:
    """Empty it, but for what the journal does not tell: refusals and alerts."""
    keys = store.keys
    size = int(answered((yield ("HGET", keys.meta, "size"))) or 0)
    answered((yield ("UNLINK", keys.log, keys.due, keys.users, keys.policies)))
    for key in (keys.users, keys.policies):
        answered((yield ("HSET", key, "", id)))
    answered((yield ("UNLINK", keys.open)))
    answered((yield ("HSET", keys.open, "", id)))
    for start in range(0, FOREVER_MS, _WORDS):  # how many buckets there were may be lost
        buckets = [keys.bucket(number) for number in range(start, start + _WORDS)]
        if not answered((yield ("UNLINK", *buckets))) and start >= size:
            return


def _written(store: Store, rebuild: Rebuild, archive: Archive, id: str, now_ms: int) -> Talk[None]:
    keys, epoch = store.keys, new_epoch()
    rows = [*_meter_rows(rebuild), *_id_rows(rebuild)]
    size = max(1, -(-len(rows) // _FULL))
    buckets: dict[int, list[Any]] = defaultdict(list)
    for field, value in rows:
        buckets[bucket_of(text(field[:8]), size)] += (field, value)
    for number in range(size):
        yield from _hset(keys.bucket(number), ["e", epoch, *buckets[number]])
    calls, users, policies = rebuild.calls.items(), rebuild.profiles.items(), rebuild.policies.items()
    yield from _hset(keys.open, _flat((id, _open_text(call)) for id, call in calls))
    yield from _many("ZADD", keys.due, [FOREVER_MS, "", *_flat((call.due_ms, id) for id, call in calls)])
    yield from _hset(keys.users, _flat((user, f"{each.revision}:{encode(each.body)}") for user, each in users))
    yield from _hset(keys.policies, _flat((revision, encode(each._asdict())) for revision, each in policies))
    mark = yield from _logged(store, rebuild, archive, now_ms)
    policy = max(rebuild.policies, default=0)
    meta = {"follows": "any", "seq": rebuild.last, "mark": mark, "now": rebuild.at_ms, "size": size, "rows": len(rows)}
    known = {"policy": policy, "layout": store.layout, "ledger": id}
    answered((yield ("HSET", keys.meta, *_flat({**meta, **known, "epoch": epoch}.items()))))


def _logged(store: Store, rebuild: Rebuild, archive: Archive, now_ms: int) -> Talk[str]:
    """The entries that a store keeps beside its archive: see `archiving`. The mark of the newest."""
    mark = ""
    made = [call.made for call in rebuild.calls.values()]
    young = archive.first_since(now_ms - KEPT_MS)
    first = min([rebuild.last, *made, *([young] if young is not None else [])])
    while lines := archive.lines(max(1, first), CHUNK):
        for line in lines:
            mark = secrets.token_hex(6)
            answered((yield ("XADD", store.keys.log, f"{line.seq}-0", *_entry(line, mark))))
        first = lines[-1].seq + 1
    return mark


def _entry(line: Line, mark: str) -> Sequence[Any]:
    return ("t", line.at_ms, "k", line.kind, "i", line.id, "u", line.user or "", "b", encode(line.body), "n", mark)


def _hset(key: str, words: list[Any]) -> Talk[None]:
    yield from _many("HSET", key, words)


def _many(command: str, key: str, words: list[Any]) -> Talk[None]:
    for start in range(0, len(words), _WORDS):
        answered((yield (command, key, *words[start : start + _WORDS])))


def _flat(pairs: Iterable[tuple[Any, Any]]) -> list[Any]:
    return list(chain.from_iterable(pairs))


def _meter_rows(rebuild: Rebuild) -> Iterator[tuple[bytes, str]]:
    """The rows of meters as lua/store.lua has them."""
    windows: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    runs: dict[str, tuple[int, int]] = {}
    for (name, period), meter in rebuild.meters.items():
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


def _open_text(call: Call) -> str:
    shares = ",".join(map(str, call.shares))
    return f"{call.state[0]}:{call.made}:{call.entry}:{call.expires_ms}::{shares}"


def _time(ms: int) -> str:
    """As lua/store.lua writes one: whole minutes as such, never as nothing."""
    if ms >= FOREVER_MS:
        return ""
    return str(ms // 60_000 if ms % 60_000 == 0 else ms)
