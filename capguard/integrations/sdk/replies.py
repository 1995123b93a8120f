"""What comes back from the SDK: a parsed reply, a raw response, or a stream, each booked by what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from capguard.call import Call
from capguard.integrations.sdk.asked import Asked
from capguard.integrations.sdk.atap import AsyncTap
from capguard.integrations.sdk.tap import Tap
from capguard.pricing.responses import read_usage


class Replies(NamedTuple):
    """Books one call by its reply, which goes on to the caller as it came."""

    asked: Asked
    call: Call
    on_stream_exceeded: str

    def take(self, reply: Any) -> Any:
        """The reply of a sync client."""
        if (unread := _unread(reply)) is not None:
            Tap(self, unread)
        else:
            self.call.settle(_body(reply))
        return reply

    def atake(self, reply: Any) -> Any:
        """The reply of an async client."""
        if (unread := _unread(reply)) is not None:
            AsyncTap(self, unread)
        else:
            self.call.settle(_body(reply))
        return reply

    def settle_body(self, body: bytes) -> None:
        """Record what the bytes of a whole reply say. One that is no JSON, as sound is, tells nothing."""
        self.call.settle(_json(body))


@contextmanager
def of_failure(call: Call) -> Iterator[None]:
    """An error that brings the reply with it, as that of a reply too long to be parsed does, is booked by its usage."""
    try:
        yield
    except Exception as error:
        if read_usage(reply := getattr(error, "completion", None)) is not None:
            call.settle(reply)
        raise


def _unread(reply: Any) -> Any:
    """The HTTP response that nobody has read yet: of a stream, or of `with_streaming_response`."""
    response = _response(reply)
    return None if response is None or response.is_closed or response.is_stream_consumed else response


def _response(reply: Any) -> Any:
    return getattr(reply, "http_response", None) or (getattr(reply, "response", None) if _iterates(reply) else None)


def _iterates(reply: Any) -> bool:
    return hasattr(reply, "__next__") or hasattr(reply, "__anext__")


def _body(reply: Any) -> Any:
    """A parsed reply as it is; of a raw one what its body says."""
    response = getattr(reply, "http_response", None)
    return reply if response is None else _json(response.content)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return {}
