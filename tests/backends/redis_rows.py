"""What a ledger in Redis holds, row by row, as far as it still counts: to compare two of them."""

from __future__ import annotations

import json
from typing import Any

import redis

from capguard.ledger.caps import Leg
from capguard.ledger.windows import FOREVER_MS

Rows = dict[tuple[str, str], Any]


def rows_of(client: redis.Redis, now_ms: int, namespace: str = "default") -> Rows:
    """Every row that is not over, without what no journal tells: fingerprints and tombstones."""
    prefix = f"cg1:{{{namespace}}}:"
    meta = {name.decode(): value.decode() for name, value in client.hgetall(f"{prefix}meta").items()}
    found: Rows = {("meta", name): meta[name] for name in ("seq", "policy", "ledger", "layout")}
    for number in range(int(meta["size"])):
        for field, value in client.hgetall(f"{prefix}b:{number}").items():
            if field != b"e":
                found |= _row(field, value.decode(), now_ms)
    for id, value in client.hgetall(f"{prefix}open").items():
        if id:
            state, made, entry, expires, *_fingerprint, shares = value.decode().split(":")
            due = float(client.zscore(f"{prefix}due", id) or 0)
            told = state, made, entry, expires, _lasting(client, f"{prefix}log", made, shares.split(","))
            found |= {("open", id.decode()): (*told, due)} if state == "h" or due > now_ms else {}
    for name in ("users", "policies"):
        for key, value in client.hgetall(prefix + name).items():
            if key:
                found[name, key.decode()] = _canonical(value.decode())
    return found


def _row(field: bytes, value: str, now_ms: int) -> Rows:
    match len(field):
        case 30:
            *sums, gone = value.split(":")
            key = f"{field[:24].decode()} {int.from_bytes(field[24:])}"
            return {("meter", key): [int(each or 0) for each in sums]} if _time(gone) > now_ms else {}
        case 25:
            period, gone = value.split(":")
            return {("run", field.decode()): period} if _time(gone) > now_ms else {}
        case 24:
            gone, rows = value.split("|")
            buckets = sorted(tuple(map(int, row.split(","))) for row in rows.split(";") if row)
            span = int(gone) - buckets[-1][0]
            live = [bucket for bucket in buckets if bucket[0] + span > now_ms]
            return {("rolling", field.decode()): live} if live else {}
    state, forgotten, *rest, _fingerprint = value.split(":", 5)
    over = int(forgotten, 16) <= now_ms or state == "t"
    return {} if over else {("id", field.decode()): (state, forgotten, *rest)}


def _lasting(client: redis.Redis, log: str, made: str, shares: list[str]) -> list[str]:
    """What a call has on its meters, without rolling ones: what has left a window is settled on nothing any more."""
    [(_, entry)] = client.xrange(log, f"{made}-0", f"{made}-0")
    body = json.loads(entry[b"b"])
    legs = [Leg(*leg) for leg in (*body["legs"], *body["sources"])]
    return [share for leg, share in zip(legs, shares, strict=True) if not leg.rolling]


def _canonical(text: str) -> object:
    """JSON, whatever the order of its names; a profile has its revision before it."""
    revision, colon, body = text.partition(":") if text[0] != "{" else ("", "", text)
    return revision + colon + json.dumps(json.loads(body), sort_keys=True)


def _time(text: str) -> int:
    if not text:
        return FOREVER_MS
    return int(text) * 60_000 if int(text) < 1e10 else int(text)
