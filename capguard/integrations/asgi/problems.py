"""What a refused request is told: a problem document, a server-sent event, or the reason of a closed websocket.

RFC 9457, with the type of https://iana.org/assignments/http-problem-types#quota-exceeded; `error` is for clients that
look for it in the manner of OpenAI's.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from capguard.errors import BackendUnavailable, CapExceeded
from capguard.integrations.asgi.protocol import Message, Send
from capguard.integrations.asgi.visible import amounts, users_own
from capguard.policy.document import Policy
from capguard.refusals import Refusal

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"


@dataclass(frozen=True)
class Problem:
    """One refusal, in all its shapes."""

    status: int
    type: str
    title: str
    error: dict[str, Any]
    retry_after: int | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def event(self) -> bytes:
        """As an event of a stream that has begun."""
        return b"event: error\ndata: %s\n\n" % _json({"error": self.error})

    @property
    def reason(self) -> str:
        """As the reason of a websocket's close, which has room for 123 bytes."""
        return str(self.error["code"])

    async def answer(self, send: Send) -> None:
        """As a response of its own."""
        detail = self.error["message"]
        body = _json(
            {"type": self.type, "title": self.title, "status": self.status, "detail": detail}
            | self.more
            | {"error": self.error}
        )
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        if self.retry_after is not None:
            headers.append((b"retry-after", b"%d" % self.retry_after))
        start: Message = {"type": "http.response.start", "status": self.status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": body})


def of_refusal(error: CapExceeded, policy: Policy) -> Problem:
    """429. It names the user's own caps; where others refuse, only that the call cannot be taken."""
    own = users_own(error.caps)
    first = own[0] if own else None
    waits = [cap.retry_after for cap in own] if own else [error.retry_after if error.retryable else None]
    known = [wait for wait in waits if wait is not None]
    resets = [cap.resets_at for cap in own if cap.resets_at is not None]
    told = _error(
        error.code,
        _sentence(first),
        reset_at=max(resets).isoformat() if resets else None,
        cap=first.id if first else None,
        reason=first.reason if first else None,
        retryable=error.retryable,
    )
    return Problem(
        429,
        QUOTA_EXCEEDED,
        "Budget cap exceeded",
        told | (amounts(first, policy) if first else {}),
        max(1, math.ceil(max(known))) if known and len(known) == len(waits) else None,
        {"violated-policies": [cap.id for cap in own]},
    )


def of_outage() -> Problem:
    """503: the ledger does not answer, which says nothing about any cap."""
    message = "Budgets cannot be checked at the moment. Try again shortly."
    error = _error("budget_backend_unavailable", message, retryable=True)
    return Problem(503, "about:blank", "Service Unavailable", error, 1)


def of_nobody(error: Exception) -> Problem | None:
    """Why a caller could not be found: 400 for what can name nobody, or what an HTTPException of `identify` says."""
    if isinstance(error, ValueError):
        return _plain(400, "Bad Request", "identity_refused", str(error)[:300])
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or not 400 <= status < 500:
        return None
    return _plain(status, "Not authorized", "not_authorized", str(getattr(error, "detail", ""))[:300])


def _plain(status: int, title: str, code: str, message: str) -> Problem:
    return Problem(status, "about:blank", title, _error(code, message, retryable=False))


def of_error(error: CapExceeded | BackendUnavailable, policy: Policy) -> Problem:
    """The problem behind an exception of capguard's."""
    return of_refusal(error, policy) if isinstance(error, CapExceeded) else of_outage()


def _sentence(cap: Refusal | None) -> str:
    """What a user may read."""
    if cap is None:
        return "This call cannot be taken at the moment."
    until = f" It resets at {cap.resets_at.isoformat()}." if cap.resets_at else ""
    return {
        "exhausted": f"What is left of the cap {cap.id!r} is not enough for this call.{until}",
        "in_flight": f"Calls that are still running hold what is left of the cap {cap.id!r}. Try again shortly.",
        "too_big": f"This call is larger than the cap {cap.id!r} can ever allow.",
        "throttled": f"Too many calls for the cap {cap.id!r}. Try again shortly.",
    }[cap.reason]


def _error(code: str, message: str, **told: Any) -> dict[str, Any]:
    empty = {"reset_at": None, "cap": None, "reason": None}
    return {"code": code, "message": message, **empty, **told}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
