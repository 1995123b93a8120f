"""What a response tells of the user's budget: how much of the tightest cap is used, and when it resets."""

from __future__ import annotations

from capguard.errors import BackendUnavailable, IdentityMissing
from capguard.guard import Guard
from capguard.integrations.asgi.protocol import Message
from capguard.integrations.asgi.visible import amounts, tightest


async def tell(guard: Guard, start: Message) -> None:
    """Add `X-Capguard-Used`, a fraction, `-Reset`, and for a public cap `-Remaining`, as far as they are known."""
    try:
        status = await guard.astatus()
    except (BackendUnavailable, IdentityMissing):
        return
    cap = tightest(status.caps)
    if cap is None:
        return
    told = {"used": f"{cap.fraction:.4f}"}
    if cap.resets_at is not None:
        told["reset"] = cap.resets_at.isoformat()
    if shown := amounts(cap, guard.policy):
        told["remaining"] = shown["remaining"]
    start["headers"] = [
        *start.get("headers", ()),
        *((f"x-capguard-{name}".encode(), value.encode("ascii")) for name, value in told.items()),
    ]
