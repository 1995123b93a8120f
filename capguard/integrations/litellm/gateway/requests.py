"""The requests that a proxy is serving: who was authenticated for each, under an id that no client can guess."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capguard.arguments import mint_id
from capguard.identity import Identity
from capguard.integrations.litellm.attempts import marked
from capguard.integrations.litellm.bounded import Bounded

MARK = "capguard_request"


class Requests:
    """The last 10,000. A proxy's notes on a request, its metadata, carry the id to every hook."""

    def __init__(self, most: int = 10_000):
        self._callers = Bounded[Identity](most)

    def begin(self, notes: dict[str, Any], identity: Identity) -> None:
        """Mark a request's notes, over whatever a client wrote there."""
        notes[MARK] = mint_id()
        self._callers.put(notes[MARK], identity)

    def caller(self, kwargs: Mapping[str, Any]) -> Identity | None:
        """Who was authenticated; None for a call that no request caused."""
        return self._callers.get(marked(kwargs, MARK))


def notes(data: dict[str, Any]) -> dict[str, Any]:
    """Where the proxy keeps its own notes on a request: beside `metadata` where that goes to the provider."""
    name = "litellm_metadata" if isinstance(data.get("litellm_metadata"), dict) else "metadata"
    if not isinstance(data.get(name), dict):
        data[name] = {}
    found: dict[str, Any] = data[name]
    return found
