"""The attempts that hooks have reserved and not booked yet, found again by a mark that LiteLLM carries along."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capguard.call import Call
from capguard.integrations.litellm.asked import Asked

log = logging.getLogger("capguard")

MARK = "capguard_call"
_MOST = 10_000


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

    def __init__(self, most: int = _MOST):
        self._open: OrderedDict[str, Attempt] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def put(self, kwargs: Mapping[str, Any], attempt: Attempt) -> None:
        """Remember an attempt, and mark the details that LiteLLM hands to its later hooks."""
        details(kwargs)[MARK] = attempt.call.id
        with self._lock:
            self._open[attempt.call.id] = attempt
            while len(self._open) > self._most:
                left, _ = self._open.popitem(last=False)
                log.warning("capguard: nothing was heard of %s any more: its expiry books it", left)

    def find(self, kwargs: Mapping[str, Any]) -> Attempt | None:
        """The attempt of a hook's `kwargs`, still open."""
        return self._open.get(_mark(kwargs))

    def take(self, kwargs: Mapping[str, Any]) -> Attempt | None:
        """The attempt of a hook's `kwargs`, to be booked: once."""
        with self._lock:
            return self._open.pop(_mark(kwargs), None)


def _mark(kwargs: Mapping[str, Any]) -> str:
    """The id under which an attempt was put; the proxy's last hook has it in its own notes only."""
    for place in (details(kwargs), kwargs.get("litellm_metadata"), kwargs.get("metadata")):
        if isinstance(place, dict) and isinstance(place.get(MARK), str):
            return str(place[MARK])
    return ""


def details(kwargs: Mapping[str, Any]) -> Any:
    """LiteLLM's record of one call: behind its logging object in the hooks, the `kwargs` themselves in the events."""
    logging_object = kwargs.get("litellm_logging_obj")
    return kwargs if logging_object is None else logging_object.model_call_details
