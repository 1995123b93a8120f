"""Moving the journal out of the store: copied, fsynced, and only then trimmed, each entry exactly once."""

from __future__ import annotations

from typing import NamedTuple

from capguard.backends.redis import wire
from capguard.backends.redis.archive import Archive
from capguard.backends.redis.journal import CHUNK, Journals
from capguard.backends.redis.store import Store, Talk, answered
from capguard.ledger.ids import RETENTION_MS
from capguard.ledger.outcomes import Line

KEPT_MS = 2 * RETENTION_MS
"""How long entries stay in the store at least: a repeat of an id finds there what was answered the first time."""


class Archived(NamedTuple):
    """What one run did: entries copied, entries dropped from the store, and the newest that the archive has."""

    copied: int
    dropped: int
    last: int


def archiving(store: Store, journals: Journals, archive: Archive, kept_ms: int) -> Talk[Archived]:
    """Copy every entry that the archive does not have, then drop those that are old.

    Stopped anywhere, the next run goes on there. Entries younger than `kept_ms`, the newest, and everything since the
    oldest open call stay in the store. Raises ValueError where the archive is another ledger's or that of another life
    of this one, or entries are in neither.
    """
    store_id, _, _ = yield from store.identity()
    ours = archive.belong(store_id or "", store.keys.prefix, store.layout) == (store_id or "")
    copied, last = 0, archive.last()
    yield from _compared(store, journals, archive, last, ours=ours)
    while lines := (yield from journals.stored(last + 1, CHUNK)):
        copied += archive.add(lines)
        last = lines[-1].seq
    first = yield from _first_to_keep(store, journals, last, kept_ms)
    dropped = answered((yield ("XTRIM", store.keys.log, "MINID", f"{first}-0"))) if first else 0
    return Archived(copied, int(dropped), last)


def _compared(store: Store, journals: Journals, archive: Archive, last: int, *, ours: bool) -> Talk[None]:
    """The newest entry of the archive must be one of the store's, and the store's of that number."""
    newest = (yield from store.ask("scan", [""]))[1]
    here = archive.lines(last, 1) if last else []
    there = (yield from journals.stored(last, 1)) if here else []
    same = not there or there[0].seq != last or told(there[0]) == told(here[0])
    if not ours or newest < last or not same:
        raise ValueError(
            f"{archive.path} is the archive of another ledger, or of another life of this one: its entry {last} is not"
            " the store's; give a new file, and keep this one"
        )


def told(line: Line) -> tuple[object, ...]:
    """What tells two entries apart."""
    return line[:5]


def _first_to_keep(store: Store, journals: Journals, last: int, kept_ms: int) -> Talk[int]:
    """The first entry that has to stay; 0 where nothing may go."""
    reply = yield from store.ask("scan", ["1"])
    newest, now_ms, opened = int(reply[1]), int(reply[3]), reply[4]
    made = [wire.read_open(value).made for id, value in zip(opened[::2], opened[1::2], strict=True) if id]
    young = yield from journals.first_since(now_ms - kept_ms)
    return max(0, min([last + 1, newest, *made, *([young] if young else [])]))
