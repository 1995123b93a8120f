"""The attempts that hooks have reserved and not booked yet, found again by a mark that LiteLLM carries along."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capguard.call import Call
from capguard.integrations.litellm.asked import Asked
from capguard.integrations.litellm.bounded import Bounded

log = logging.getLogger("capguard")

MARK = "capguard_call"


@dataclass(slots=True)
class Attempt:
    """One call to a provider: what was asked, its reservation, and whether it was held for the deployment itself.

    A proxy holds before its Router picks one: the hold then stands only if the price is the same.
    """

    asked: Asked
    call: Call
    placed: bool = True


class Attempts:
    """Those that are open, by the id of their reservation. Beyond the last 10,000, their expiry books them."""

    def __init__(self, most: int = 10_000):
        self._open = Bounded[Attempt](most)

    def __len__(self) -> int:
        return len(self._open)

    def put(self, attempt: Attempt, *places: dict[str, Any]) -> None:
        """Remember an attempt, and mark the places that LiteLLM hands to its later hooks."""
        for place in places:
            place[MARK] = attempt.call.id
        for left in self._open.put(attempt.call.id, attempt):
            log.warning("capguard: nothing was heard of %s any more: its expiry books it", left)

    def find(self, kwargs: Mapping[str, Any]) -> Attempt | None:
        """The attempt of a hook's `kwargs`, still open."""
        return self._open.get(marked(kwargs, MARK))

    def take(self, kwargs: Mapping[str, Any]) -> Attempt | None:
        """The attempt of a hook's `kwargs`, to be booked: once."""
        return self._open.take(marked(kwargs, MARK))


def marked(kwargs: Mapping[str, Any], mark: str) -> str:
    """The id under a mark: in LiteLLM's record of the call, else in the notes of a proxy; empty where there is none."""
    for place in (record_of(kwargs), kwargs.get("litellm_metadata"), kwargs.get("metadata")):
        if isinstance(place, dict) and isinstance(place.get(mark), str):
            return str(place[mark])
    return ""


def record_of(kwargs: Mapping[str, Any]) -> Any:
    """LiteLLM's record of one call: behind its logging object in the hooks, the `kwargs` themselves in the events."""
    logging_object = kwargs.get("litellm_logging_obj")
    return kwargs if logging_object is None else logging_object.model_call_details
