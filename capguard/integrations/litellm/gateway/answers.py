"""What a client of the proxy is told: a refusal in OpenAI's shape (Anthropic's on /v1/messages), and headers."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from capguard.errors import BackendUnavailable, CapExceeded
from capguard.ledger.caps import ENFORCING
from capguard.ledger.units import MONEY
from capguard.readable import plain
from capguard.states import Status

REMAINING = "x-capguard-remaining"
DOWNGRADED = "x-capguard-downgraded"
NO_RETRY = {"x-should-retry": "false"}


def refusal(error: Exception) -> Any:
    """A `ProxyException` for an error of capguard: 429 for a cap, 503 for a ledger that is away, 400 for the rest."""
    from litellm.proxy._types import ProxyException

    kind, status, param, headers = _told(error)
    text = _of_cap(error) if isinstance(error, CapExceeded) else str(error)
    return ProxyException(message=text, type=kind, param=param, code=status, headers=headers)


def as_http(error: CapExceeded) -> Any:
    """The same for a refusal that came out of the Router, where the proxy only takes an `HTTPException`."""
    from fastapi import HTTPException

    _, status, _, headers = _told(error)
    return HTTPException(status, detail=_of_cap(error), headers=headers)


def remaining(status: Status) -> dict[str, str]:
    """What is left of the tightest money cap that stops calls, in dollars; nothing where there is none."""
    left = [cap.remaining for cap in status.caps if cap.unit in MONEY and cap.action in ENFORCING]
    return {REMAINING: plain(min(left))} if left else {}


def _told(error: Exception) -> tuple[str, int, str | None, dict[str, str]]:
    if isinstance(error, CapExceeded):
        return error.code, 429, error.cap.id, _when(error)
    if isinstance(error, BackendUnavailable):
        return "budget_backend_unavailable", 503, None, {}
    return "budget_request_refused", 400, None, dict(NO_RETRY)


def _when(error: CapExceeded) -> dict[str, str]:
    """When to come again, where waiting helps; else not to."""
    if not error.retryable or error.retry_after is None:
        return dict(NO_RETRY)
    return {"Retry-After": str(max(1, math.ceil(Decimal(str(error.retry_after)))))}


def _of_cap(error: CapExceeded) -> str:
    """For a client's eyes: no amounts, and nobody else's cap by more than its id."""
    until = f"; resets at {error.resets_at.isoformat()}" if error.resets_at and error.reason == "exhausted" else ""
    return f"budget cap {error.cap.id!r} refuses this call: {error.reason}{until}"
