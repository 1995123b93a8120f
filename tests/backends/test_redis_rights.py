"""Who may do what: rights that are missing are named, passwords are never shown."""

from __future__ import annotations

import logging
import traceback

import pytest

from capguard.backends.redis import RedisBackend
from capguard.errors import BackendUnavailable
from capguard.ledger.commands import Verify
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import settle
from capguard.testing.conformance.driving import MODES, driven
from capguard.testing.proxy import Proxy
from tests.backends.redis_place import HELD, Place, say
from tests.backends.servers import Server


@pytest.mark.parametrize("mode", MODES)
def test_a_user_that_may_run_no_scripts(own: Server, mode: str) -> None:
    """NOPERM: unavailable, with the server's word on what is missing, and without the password."""
    place = Place(own)
    place.raw.execute_command("ACL", "SETUSER", "app", "on", ">s3cret", "~*", "+@all", "-@scripting")
    backend = RedisBackend(f"redis://app:s3cret@127.0.0.1:{own.port}/0", deadline=5)
    with driven(backend, mode) as execute, pytest.raises(BackendUnavailable, match="permissions") as told_why:
        execute(HELD[0])
    assert "s3cret" not in _everything(told_why.value, backend)


def test_a_user_with_just_what_is_needed(own: Server) -> None:
    """Scripts, and the commands in them, on the keys of capguard: that is enough."""
    place = Place(own)
    rights = ("+@hash", "+@sortedset", "+@stream", "+@scripting", "+@connection", "+time", "+exists")
    place.raw.execute_command("ACL", "SETUSER", "app", "on", ">s3cret", "~cg1:*", "-@all", *rights)
    backend = RedisBackend(f"redis://app:s3cret@127.0.0.1:{own.port}/0", deadline=5, clock=ManualClock())
    say(backend, HELD, (settle("r1", 3), "settled 3"), (Verify(), "verified 2 entries, 1 meters, 0 open"))
    backend.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@127.0.0.1:{port}/0",
        "redis://app:s3cret@127.0.0.1:{port}/0",
        "redis://:s3%2Fcret@127.0.0.1:{port}/0",
        "redis://:s3cret@127.0.0.1:{closed}/0",
    ],
)
def test_a_wrong_password_is_never_shown(own: Server, url: str, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in the error, its causes and their trace, nor in a repr, a log or the URL."""
    with own.client() as client:
        client.config_set("requirepass", "right")
    caplog.set_level(logging.DEBUG)
    with Proxy(1) as nowhere:
        closed = nowhere.port
    backend = RedisBackend(url.format(port=own.port, closed=closed), deadline=5)
    with driven(backend, mode) as execute, pytest.raises(BackendUnavailable) as told_why:
        execute(HELD[0])
    for secret in ("s3cret", "s3%2Fcret", "s3/cret"):
        assert secret not in _everything(told_why.value, backend) + caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@127.0.0.1:port/0",
        "redis://:s3#cret@127.0.0.1/0",
        "redis://:s3/cret@127.0.0.1/0",
    ],
)
def test_the_password_of_a_url_that_is_none_is_never_shown(url: str) -> None:
    """A URL that cannot be read is refused without repeating what may be a password in it."""
    with pytest.raises((BackendUnavailable, ValueError)) as told_why:
        RedisBackend(url, deadline=0.2).execute(HELD[0])
    assert "cret" not in "".join(traceback.format_exception_only(told_why.value))


def _everything(error: BaseException, backend: RedisBackend) -> str:
    told = [repr(backend), str(backend), backend.url, *traceback.format_exception(error)]
    cause: BaseException | None = error
    while cause is not None:
        told += [repr(cause), str(cause.args)]
        cause = cause.__cause__ or cause.__context__
    return "\n".join(told)
