"""The answer to one HTTP request as it passes: a refusal becomes one clean answer, whatever layers below made of it.

A 500 is held back until the application has ended: Starlette's outermost layer sends one before its exception is seen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from capguard.integrations.asgi.culprit import Culprit, culprit
from capguard.integrations.asgi.problems import Problem
from capguard.integrations.asgi.protocol import Message, Send
from capguard.watch import Watch

MOST_HELD_BACK = 64 * 1024
"""Bytes of a 500 that wait for the end of the application; a longer one goes out as it is."""


class Answer:
    """Wraps `send`. `decorate` may add headers to a response as it starts."""

    def __init__(
        self,
        send: Send,
        watch: Watch,
        problem: Callable[[Culprit], Problem],
        decorate: Callable[[Message], Awaitable[None]] | None,
    ):
        self._send = send
        self._watch = watch
        self._problem = problem
        self._decorate = decorate
        self._started = False
        self._ended = False
        self._is_events = False
        self._held_back: list[Message] = []

    async def send(self, message: Message) -> None:
        """What the application sends."""
        if message["type"] == "http.response.start" and message["status"] == 500:
            self._held_back = [message]
        elif self._held_back:
            self._held_back.append(message)
            if sum(len(each.get("body", b"")) for each in self._held_back) > MOST_HELD_BACK:
                await self._let_go()
        elif self._closes(message) and self._is_events and self._watch.refused is not None:
            await self._pass({**message, "more_body": True})
            await self._end_events(self._watch.refused)
        else:
            await self._pass(message)

    async def ended(self, error: Exception | None) -> bool:
        """The application has ended; true where that needs nobody's attention any more."""
        refused = culprit(error)
        if error is None and self._held_back:
            refused = culprit(self._watch.refused)
        if refused is not None and not self._started:
            self._held_back = []
            await self._pass_problem(refused)
            return True
        await self._let_go()
        if refused is not None and self._is_events and not self._ended:
            await self._end_events(refused)
            return True
        return error is None

    async def _pass(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            self._is_events = _content_type(message).startswith(b"text/event-stream")
            if self._decorate is not None:
                await self._decorate(message)
        self._ended = self._ended or self._closes(message)
        await self._send(message)

    async def _pass_problem(self, refused: Culprit) -> None:
        await self._problem(refused).answer(self._pass)

    async def _end_events(self, refused: Exception) -> None:
        found = culprit(refused)
        event = self._problem(found).event if found is not None else b""
        await self._pass({"type": "http.response.body", "body": event, "more_body": False})

    async def _let_go(self) -> None:
        held, self._held_back = self._held_back, []
        for message in held:
            await self._pass(message)

    @staticmethod
    def _closes(message: Message) -> bool:
        return message["type"] == "http.response.body" and not message.get("more_body", False)


def _content_type(start: Message) -> bytes:
    return next((value for name, value in start.get("headers", ()) if name.lower() == b"content-type"), b"")
