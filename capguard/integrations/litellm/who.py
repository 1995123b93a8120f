"""Who is calling, as a call to LiteLLM says it: `identity=`, over `user=`, over `metadata["capguard"]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capguard.identity import NOBODY, Identity, identity_of

KEY = "capguard"
"""The key of `metadata` whose value is a mapping of identity fields: `metadata={"capguard": {"plan": "pro"}}`."""


def said(identity: Any, kwargs: Mapping[str, Any]) -> Identity:
    """What the arguments of one call say; `identify` completes it. Raises ValueError for what can name nobody."""
    user = kwargs.get("user")
    named = NOBODY if user is None else Identity(user=user)
    return identity_of(identity).over(named.over(in_metadata(kwargs)))


def in_metadata(kwargs: Mapping[str, Any]) -> Identity:
    """The fields under `capguard` in `litellm_metadata` or `metadata`."""
    found = NOBODY
    for name in ("litellm_metadata", "metadata"):
        bucket = kwargs.get(name)
        if isinstance(bucket, Mapping) and bucket.get(KEY) is not None:
            found = found.over(identity_of(bucket[KEY]))
    return found
