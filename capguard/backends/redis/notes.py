"""Notes that processes leave each other: a hash for each topic, a field for each writer. No part of the books."""

from __future__ import annotations

import json

from capguard.backends.redis.packing import encode
from capguard.backends.redis.store import Store, Talk, answered
from capguard.backends.redis.wire import text
from capguard.ledger.commands import NOTES, NOTES_KEPT_MS, Share
from capguard.ledger.outcomes import Outcome, Shared


class Notes:
    """The notes beside one ledger."""

    def __init__(self, store: Store):
        self._store = store

    def share(self, command: Share) -> Talk[Outcome]:
        now_ms = (yield from self._store.ask("fetch", ["", "", "", ""]))[3]
        key = f"{self._store.keys.prefix}notes:{command.topic}"
        answered((yield ("HSET", key, command.writer, f"{now_ms} {encode(command.note)}")))
        fields = answered((yield ("HGETALL", key)))
        pairs = list(fields.items()) if isinstance(fields, dict) else list(zip(fields[::2], fields[1::2], strict=True))
        rows = [(text(writer), *text(value).split(" ", 1)) for writer, value in pairs]
        newest = sorted(rows, key=lambda row: (-int(row[1]), row[0]))
        kept = [row for row in newest[:NOTES] if int(row[1]) > now_ms - NOTES_KEPT_MS]
        if old := [row[0] for row in newest if row not in kept]:
            answered((yield ("HDEL", key, *old)))
        return Shared(tuple([json.loads(body) for writer, _, body in kept if writer != command.writer]))
