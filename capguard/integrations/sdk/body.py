"""The body of one HTTP response, metered as whoever reads it reads it: the SDK's stream, its helpers, or raw lines.

What reads an `httpx.Response` goes through its `iter_bytes`, and what gives it back through its `close`: these are
replaced on the one response. No private name of the SDK is touched, and every kind of stream keeps its type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from capguard.integrations.sdk.events import Passing

if TYPE_CHECKING:
    from capguard.integrations.sdk.replies import Replies


class Body:
    """What the sync and the async tap share: what was seen, and how it is booked when the reading ends."""

    def __init__(self, replies: Replies, response: Any):
        kind = response.headers.get("content-type", "")
        self.call = replies.call
        self.response = response
        self.is_stream = "event-stream" in kind
        self.begun = False
        self.reading = False
        self.ended = False
        self._replies = replies
        self._kept: list[bytes] | None = [] if "json" in kind else None
        self._passing = Passing(hide=replies.asked.hides_usage)
        if not self.is_stream:
            self.call.go_on()  # its block is left before it is read

    def meters(self) -> dict[str, Any]:
        """How the meter of a stream is made."""
        return {"on_exceeded": self._replies.on_stream_exceeded}

    def raw(self, iterate: Callable[..., Any]) -> Callable[..., Any]:
        """Bytes as they came may be compressed: whoever reads those pays what was expected."""

        def iter_raw(*size: Any) -> Any:
            if not self.reading and self.is_stream:
                self.call.settle()
            return iterate(*size)

        return iter_raw

    def passes(self, chunk: bytes) -> bytes:
        """What of a chunk goes on to the reader."""
        if self.is_stream:
            return self._passing.feed(chunk)
        if self._kept is not None:
            self._kept.append(chunk)
        return chunk

    @property
    def done(self) -> bool:
        """Whether the stream said that it is over: the SDK stops reading there."""
        return self._passing.done

    def tail(self) -> bytes:
        """What is left when the body ends in the middle of an event."""
        return self._passing.tail()

    def record(self) -> None:
        """Settle a reply that is no stream by its body; one that was not read to its end, by what was expected."""
        self._replies.settle_body(b"".join(self._kept or ()))
