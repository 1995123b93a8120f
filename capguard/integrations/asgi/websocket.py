"""A websocket as it passes: a refusal closes it with 1008, policy violation, before or after it was accepted."""

from __future__ import annotations

from capguard.integrations.asgi.problems import Problem
from capguard.integrations.asgi.protocol import Message, Send

POLICY_VIOLATION = 1008


class Socket:
    """Wraps `send` and knows whether the socket is closed already."""

    def __init__(self, send: Send):
        self._send = send
        self._closed = False

    async def send(self, message: Message) -> None:
        """What the application sends."""
        self._closed = self._closed or message["type"] in ("websocket.close", "websocket.http.response.start")
        await self._send(message)

    async def close(self, problem: Problem) -> None:
        """Close it, once."""
        if not self._closed:
            await self.send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": problem.reason})
