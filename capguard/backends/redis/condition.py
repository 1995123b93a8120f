"""The settings of a server that weaken what the ledger promises, each with its remedy."""

from __future__ import annotations


def weaknesses(info: str) -> list[str]:
    """What the server's INFO on memory and persistence says; nothing where it may not be asked."""
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    found = []
    if fields.get("maxmemory", "0") != "0" and fields.get("maxmemory_policy") != "noeviction":
        found.append(
            f"the server evicts keys when its memory is full (maxmemory-policy {fields.get('maxmemory_policy')}): "
            "what was spent would be forgotten; set maxmemory-policy noeviction"
        )
    if fields and fields.get("aof_enabled", "0") != "1":
        found.append(
            "the server writes no append-only file: a restart loses what was spent since its last snapshot; "
            "set appendonly yes"
        )
    return found
