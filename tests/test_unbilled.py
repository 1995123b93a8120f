"""Which exceptions prove that nothing was billed."""

from __future__ import annotations

import socket
import urllib.error
from collections.abc import Callable

import httpx
import openai
import pytest

from capguard.unbilled import is_unbilled


class WithStatus(Exception):
    """As every SDK's error that carries the provider's answer."""

    def __init__(self, status: object):
        self.status_code = status


class WithResponse(Exception):
    """As httpx and requests carry it."""

    def __init__(self, status: object):
        self.response = httpx.Response(status) if isinstance(status, int) else status


class Timeout(WithStatus):
    """As LiteLLM's: a time-out that claims a status."""


class EndpointConnectionError(Exception):
    """As botocore's."""


class RequestsConnectionError(OSError):
    """As requests': raised while its cause was handled, without `from`."""


def raised(error: BaseException, *, by: BaseException | None = None, during: BaseException | None = None) -> Exception:
    """`error` as it comes out of code that met another one."""
    error.__cause__ = by
    error.__context__ = by or during
    error.__suppress_context__ = by is not None
    assert isinstance(error, Exception)
    return error


def circle() -> Exception:
    one, two = ValueError(), ValueError()
    one.__cause__, two.__cause__ = two, one
    return one


REQUEST = httpx.Request("POST", "http://127.0.0.1")
REFUSED = ConnectionRefusedError()
CASES: list[tuple[str, Callable[[], BaseException], bool]] = [
    ("refused", lambda: REFUSED, True),
    ("no such host", socket.gaierror, True),
    ("no connection in time", lambda: httpx.ConnectTimeout("", request=REQUEST), True),
    ("no free connection in time", lambda: httpx.PoolTimeout("", request=REQUEST), True),
    ("httpx", lambda: httpx.ConnectError("", request=REQUEST), True),
    ("botocore", EndpointConnectionError, True),
    ("an SDK over httpx", lambda: raised(openai.APIConnectionError(request=REQUEST), by=httpx.ConnectError("")), True),
    ("urllib", lambda: urllib.error.URLError(REFUSED), False),
    ("urllib, as it raises", lambda: raised(urllib.error.URLError(REFUSED), during=REFUSED), True),
    ("requests, as it raises", lambda: raised(RequestsConnectionError(), during=REFUSED), True),
    ("deep", lambda: raised(ValueError(), by=raised(ValueError(), by=raised(KeyError(), by=REFUSED))), True),
    ("a bad request", lambda: WithStatus(400), True),
    ("a rate limit", lambda: WithStatus(429), True),
    ("overloaded", lambda: WithStatus(529), True),
    ("a status in the response", lambda: WithResponse(503), True),
    ("a good status", lambda: WithStatus(200), False),
    ("a redirect", lambda: WithStatus(302), False),
    ("no HTTP status", lambda: WithStatus(600), False),
    ("a status that is text", lambda: WithStatus("429"), False),
    ("no response", lambda: WithResponse(None), False),
    ("a time-out", TimeoutError, False),
    ("a time-out of the SDK", lambda: openai.APITimeoutError(request=REQUEST), False),
    ("a time-out after sending", lambda: httpx.ReadTimeout("", request=REQUEST), False),
    ("a time-out that claims a status", lambda: Timeout(408), False),
    ("a time-out over a status", lambda: raised(TimeoutError(), by=WithStatus(500)), False),
    ("dropped", lambda: httpx.RemoteProtocolError("", request=REQUEST), False),
    ("reset", ConnectionResetError, False),
    ("broken pipe", BrokenPipeError, False),
    ("one's own", ValueError, False),
    ("after a handled failure", lambda: raised(ValueError(), during=REFUSED), False),
    ("after a handled status", lambda: raised(ValueError(), during=WithStatus(429)), False),
    ("from None", lambda: raised(ValueError()), False),
    ("Ctrl-C", KeyboardInterrupt, False),
    ("a circle", circle, False),
]


@pytest.mark.parametrize(("error", "unbilled"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_proves_that_nothing_was_billed(error: Callable[[], BaseException], unbilled: bool):
    """No connection, or an error status; nothing else, and nothing that merely happened before."""
    assert is_unbilled(error()) == unbilled
