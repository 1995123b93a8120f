"""Which exceptions prove that a provider did not bill: no connection was made, or it answered with an error status.

Read by duck typing over the exception and its causes, so that no SDK is imported. A time-out, and anything that came
after the request was sent, proves nothing; nor does an earlier failure that was handled when this one came.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

from capguard.errors import CapExceeded

_NOT_CONNECTED = (ConnectionRefusedError, socket.gaierror)
_NOT_CONNECTED_BY_NAME = {
    "ClientConnectorError",
    "ConnectError",
    "ConnectTimeout",
    "EndpointConnectionError",
    "NewConnectionError",
    "PoolTimeout",
}
_DEEPEST = 10


def is_unbilled(error: BaseException) -> bool:
    """Whether `error` proves that nothing was billed."""
    for each in _chain(error):
        if _never_sent(each):
            return True
        if "Timeout" in type(each).__name__:
            return False
        if _answered_with_error(each):
            return True
    return False


def _never_sent(error: BaseException) -> bool:
    return isinstance(error, (CapExceeded, *_NOT_CONNECTED)) or type(error).__name__ in _NOT_CONNECTED_BY_NAME


def _answered_with_error(error: BaseException) -> bool:
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(status, int) and 400 <= status < 600


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and what it was raised from; network libraries, whose errors are OSErrors, may not say it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < _DEEPEST:
        seen.add(id(current))
        yield current
        unsaid = isinstance(current, OSError) and not current.__suppress_context__
        current = current.__cause__ or (current.__context__ if unsaid else None)
