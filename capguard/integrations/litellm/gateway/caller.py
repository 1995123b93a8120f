"""Who calls the proxy: what it authenticated, and of the request itself only what is trusted.

A key's id is its alias, which it keeps when it is rotated; a key without an alias is known by its hash, which changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capguard.identity import MAX_LENGTH, Identity

_OWN = ("plan", "org", "feature", "session")


def of(key: Any, data: Mapping[str, Any], trust: tuple[str, ...]) -> Identity:
    """The identity behind a key, a `UserAPIKeyAuth`. Its metadata names the plan, over that of its team."""
    told: dict[str, str] = {}
    for metadata in (getattr(key, "team_metadata", None), getattr(key, "metadata", None)):
        told |= {name: value for name in _OWN if isinstance(value := (metadata or {}).get(name), str) and value}
    named = {
        "user": key.user_id,
        "team": key.team_id,
        "org": getattr(key, "org_id", None),
        "key_id": key.key_alias or key.token or key.api_key,
    }
    return Identity(**_fitting(named | told | _believed(data, trust)))


def _believed(data: Mapping[str, Any], trust: tuple[str, ...]) -> dict[str, Any]:
    headers = (data.get("proxy_server_request") or {}).get("headers") or {} if "headers" in trust else {}
    lower = {str(name).lower(): value for name, value in headers.items()}
    named = {
        "user": lower.get("x-litellm-end-user-id") or (data.get("user") if "user" in trust else None),
        "feature": lower.get("x-capguard-feature"),
        "session": lower.get("x-capguard-session"),
    }
    return {name: value for name, value in named.items() if value}


def _fitting(named: Mapping[str, Any]) -> dict[str, Any]:
    """What can name somebody: nobody is locked out by an odd value in a database, but refused for lack of a name."""
    return {
        name: value
        for name, value in named.items()
        if isinstance(value, str) and value.isprintable() and 0 < len(value) <= MAX_LENGTH
    }
