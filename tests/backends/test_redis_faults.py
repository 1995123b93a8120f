"""A network and a server that fail: what was sent counts once or not at all, what is not known is never taken for 0."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from capguard.backends.redis import RedisBackend
from capguard.errors import BackendUnavailable
from capguard.ledger.commands import Command, Fetch, Look, PolicyInForce, Profile, Publish, Refusals, Steer, Verify
from capguard.ledger.outcomes import Held
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import cap, extend, model, release, reserve, reserve_one_of, settle
from capguard.testing.conformance.driving import MODES, Driver, driven
from capguard.testing.conformance.paying import give
from capguard.testing.conformance.told import told
from capguard.testing.proxy import Proxy
from tests.backends.redis_games import Place, refuses, say
from tests.backends.servers import Server, servers, shared

TEN, TOLD = cap("ten", 10), cap("told", 5, "warn")
HELD = reserve("r1", 4, TEN), "held"
SHORT = 0.4
"""Seconds that a step waits where a reply is not to come: as long as an idle machine needs many times over."""


@pytest.fixture(params=servers())
def server(request: pytest.FixtureRequest) -> Server:
    """A server that other tests use too."""
    return shared(request.param)


@pytest.fixture(params=servers())
def own(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server to be broken."""
    server = Server(request.param)
    yield server
    server.stop()


@pytest.fixture
def place(server: Server) -> Place:
    _teach(server)
    return Place(server)


def _teach(server: Server) -> None:
    """Let it know every script, so that a command is one step: by its digest."""
    backend = Place(server).open(ManualClock())
    say(backend, (reserve("r1", 1), "held"), (extend("r1", ttl=90), "extended to  until 90"))
    say(backend, (settle("r1", 1), "settled 1"), (release("r1"), "nothing to release"))
    say(backend, (give("credit", 1), "profile 1, grants credit"))
    say(backend, (Publish({"default_plan": "pro"}, None), "policy 1 pro"), (Look(()), "meters"))
    backend.close()


@contextmanager
def behind(place: Place, proxy: Proxy, mode: str, deadline: float = SHORT) -> Iterator[Driver]:
    backend = place.open(ManualClock(), deadline=deadline, port=proxy.port)
    with driven(backend, mode) as execute:
        yield execute


def _wrong(reason: str) -> pytest.MarkDecorator:
    """What the backend does not do yet."""
    return pytest.mark.xfail(strict=True, reason=reason)


# Replies that are lost

LOST: tuple[tuple[Command, bytes, str, str], ...] = (
    (reserve("new", 5, TEN), b"new", "held, again", "meters 0/9/0"),
    (reserve("new", 5, TEN, book=True), b"new", "settled, again", "meters 5/4/0"),
    (reserve("new", 7, TEN), b"new", "denied ten:in_flight", "meters 0/4/0"),
    (settle("r1", 3), b"r1", "settled 3, again", "meters 3/0/0"),
    (release("r1"), b"r1", "nothing to release", "meters 0/0/0"),
    (release("new"), b"new", "nothing to release", "meters 0/4/0"),
    (extend("r1", ttl=90, amount=6), b"r1", "extended to 6 until 90", "meters 0/6/0"),
    (give("credit", 5), b"credit", "profile 1, grants credit, again", "meters 0/4/0"),
    (Publish({"default_plan": "pro"}, None), b"pro", "policy 1 pro, again", "meters 0/4/0"),
    (Look((TEN,)), b"EVALSHA", "meters 0/4/0", "meters 0/4/0"),
)
ENTRIES = (2, 2, 1, 2, 2, 1, 2, 2, 2, 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("lost", "entries"), list(zip(LOST, ENTRIES, strict=True)))
def test_a_lost_reply_is_asked_for_again_and_counts_once(
    place: Place, lost: tuple[Command, bytes, str, str], entries: int, mode: str
) -> None:
    """The connection is reset after the server did what it was told; the step bears its id, and is sent once more."""
    command, on, answer, meters = lost
    with Proxy(place.server.port) as proxy, behind(place, proxy, mode, deadline=5) as execute:
        assert told(execute(HELD[0])) == "held"
        proxy.fail("reset", on=on)
        assert told(execute(command)) == answer
        assert proxy.happened == 1
        assert told(execute(Look((TEN,)))) == meters
        assert told(execute(Verify())).startswith(f"verified {entries} entries")


@pytest.mark.parametrize("fault", ["black hole", "half-open"])
def test_a_reply_that_never_comes_is_asked_for_again(place: Place, fault: Any) -> None:
    """Whether the reply was swallowed or the command: it is sent again on another connection, and counts once."""
    with Proxy(place.server.port) as proxy, behind(place, proxy, "sync") as execute:
        execute(HELD[0])
        proxy.fail(fault, on=b"new")
        assert isinstance(execute(reserve("new", 5, TEN)), Held)
        assert told(execute(Look((TEN,)))) == "meters 0/9/0"


def test_what_was_decided_is_told_again(place: Place) -> None:
    """The model and the output limit that a lost reply told are those of the second reply."""
    cheaper = cap("cheap", 5, "downgrade", step=1)
    call = reserve_one_of("new", model("big", 6, cheaper), model("small", 2, cap("cheap", 5, "downgrade")))
    with Proxy(place.server.port) as proxy, behind(place, proxy, "sync", deadline=5) as execute:
        execute(Verify())
        proxy.fail("reset", on=b"new")
        assert told(execute(call)) == "held small, again"


@pytest.mark.parametrize("mode", MODES)
def test_all_replies_are_lost(place: Place, mode: str) -> None:
    """Nobody knows whether it counts: unavailable; the same id afterwards counts once."""
    with Proxy(place.server.port) as proxy, behind(place, proxy, mode, deadline=5) as execute:
        proxy.fail("reset", on=b"EVAL", times=100)
        with pytest.raises(BackendUnavailable):
            execute(HELD[0])
        proxy.heal()
        assert isinstance(execute(HELD[0]), Held)
        proxy.fail("reset", on=b"r1", times=100)
        with pytest.raises(BackendUnavailable):
            execute(settle("r1", 3))
        assert proxy.happened == 2
        proxy.heal()
        assert told(execute(settle("r1", 3))) == "settled 3, again"
        assert told(execute(Look((TEN,)))) == "meters 3/0/0"
        assert told(execute(Verify())) == "verified 2 entries, 1 meters, 0 open"


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_is_away_is_unavailable_and_comes_back(place: Place, mode: str) -> None:
    """Connections are refused: so is the call, at once. The next one finds the server again."""
    with Proxy(place.server.port) as proxy, behind(place, proxy, mode, deadline=5) as execute:
        execute(HELD[0])
        proxy.refuse()
        with pytest.raises(BackendUnavailable):
            execute(reserve("r2", 4, TEN))
        proxy.accept()
        assert told(execute(reserve("r2", 4, TEN))) == "held"
        assert told(execute(Look((TEN,)))) == "meters 0/8/0"


def test_a_late_reply_is_waited_for(place: Place) -> None:
    """A delay below the deadline is a delay."""
    with Proxy(place.server.port) as proxy, behind(place, proxy, "sync", deadline=5) as execute:
        execute(HELD[0])
        proxy.fail("delay", on=b"r1", seconds=0.05)
        assert told(execute(settle("r1", 3))) == "settled 3"


@pytest.mark.parametrize("mode", MODES)
def test_a_reply_that_comes_after_all_is_nobody_elses(place: Place, mode: str) -> None:
    """The connection whose reply did not come in time is not used again: the next command gets its own reply."""
    with Proxy(place.server.port) as proxy, behind(place, proxy, mode) as execute:
        execute(HELD[0])
        proxy.fail("delay", on=b"r1", times=2, seconds=SHORT * 1.5)
        with pytest.raises(BackendUnavailable):
            execute(settle("r1", 3))
        for number in range(20):
            assert told(execute(reserve(f"n{number}", 0))) == "held"


# The server stands still, is full, follows another, begins


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_stands_still(mode: str) -> None:
    """Unavailable after the deadline; when it goes on it carries out what it was sent, and the same id counts once."""
    own = Server(servers()[-1])
    _teach(own)
    place = Place(own)
    with driven(place.open(ManualClock(), deadline=SHORT), mode) as execute:
        for command, again in ((HELD[0], "held, again"), (settle("r1", 3), "settled 3, again")):
            execute(Verify())
            own.freeze()
            with pytest.raises(BackendUnavailable):
                execute(command)
            own.thaw()
            own.wait()
            assert told(execute(command)) == again
        assert told(execute(Look((TEN,)))) == "meters 3/0/0"
        assert told(execute(Verify())) == "verified 2 entries, 1 meters, 0 open"
    own.stop()


def _fill(place: Place) -> None:
    place.raw.set("ballast", os.urandom(2_000_000))
    place.raw.config_set("maxmemory", "1mb")


def test_a_full_server_takes_no_reserve(own: Server) -> None:
    """Out of memory: unavailable, not refused; with room again everything goes on."""
    place = Place(own)
    backend = place.open(ManualClock())
    say(backend, HELD)
    _fill(place)
    before = place.shows()
    refuses(backend, reserve("new", 1, TEN))
    assert place.shows() == before
    place.raw.config_set("maxmemory", "0")
    say(backend, (reserve("new", 1, TEN), "held"), (Look((TEN,)), "meters 0/5/0"))


def test_a_full_server_takes_what_ends_a_call(own: Server, request: pytest.FixtureRequest) -> None:
    """From Redis 7 on what is spent is booked even then."""
    place = Place(own)
    backend = place.open(ManualClock())
    say(backend, HELD, (reserve("r2", 4, TEN), "held"))
    _fill(place)
    if own.version >= 7:
        request.applymarker(pytest.mark.xfail(strict=True, reason="the backend never asks for scripts with flags"))
    if own.version < 7:
        refuses(backend, settle("r1", 3), release("r2"))
        place.raw.config_set("maxmemory", "0")
    say(backend, (settle("r1", 3), "settled 3"), (release("r2"), "released"), (Look((TEN,)), "meters 3/0/0"))
    say(backend, (Verify(), "verified 4 entries, 1 meters, 0 open"))


def test_a_server_that_follows_another_takes_nothing(own: Server) -> None:
    """READONLY is no refusal: unavailable; when it is the first again everything goes on."""
    place = Place(own)
    backend = place.open(ManualClock())
    say(backend, HELD)
    before = place.shows()
    place.raw.execute_command("REPLICAOF", "127.0.0.1", "1")
    refuses(backend, reserve("new", 1, TEN), settle("r1", 3), release("r1"))
    assert place.shows() == before
    place.raw.execute_command("REPLICAOF", "NO", "ONE")
    say(backend, (settle("r1", 3), "settled 3"), (Look((TEN,)), "meters 3/0/0"))


def test_a_server_that_is_still_loading(own: Server) -> None:
    """LOADING: unavailable, and never an empty ledger, for who knew it and for who comes anew; then it is all there."""
    place = Place(own)
    backend = place.open(ManualClock())
    say(backend, HELD)
    for number in range(400):  # it answers after every 2 MB that it has loaded
        place.raw.set(f"ballast {number}", os.urandom(100_000))
    place.raw.save()
    own.kill()
    own.start("--key-load-delay", "8000", answers=False)
    own.wait_for_a_connection()
    refuses(backend, Look((TEN,)))
    refuses(place.open(ManualClock()), reserve("new", 1, TEN))
    own.wait()
    say(backend, (reserve("new", 1, TEN), "held"), (Look((TEN,)), "meters 0/5/0"))


def test_a_server_with_too_many_clients(own: Server) -> None:
    """Unavailable; with room for one more it goes on."""
    place = Place(own)
    backend = place.open(ManualClock())
    place.raw.config_set("maxclients", 1)  # the one that says so
    refuses(backend, HELD[0])
    place.raw.config_set("maxclients", 100)
    say(backend, HELD)
    backend.close()


# Who may do what


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
    ("url", "options"),
    [
        ("redis://:s3cret@127.0.0.1:{port}/0", {}),
        ("redis://app:s3cret@127.0.0.1:{port}/0", {}),
        ("redis://127.0.0.1:{port}/0?password=s3cret", {}),
        ("redis://127.0.0.1:{port}/0", {"password": "s3cret"}),
        ("redis://:s3%2Fcret@127.0.0.1:{port}/0", {}),
        ("redis://:s3cret@127.0.0.1:{closed}/0", {}),
    ],
)
def test_a_wrong_password_is_never_shown(
    own: Server, url: str, options: dict[str, Any], mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the error, its causes and their trace, nor in a repr, a log or the URL."""
    own.client().config_set("requirepass", "right")
    caplog.set_level(logging.DEBUG)
    with Proxy(1) as nowhere:
        closed = nowhere.port
    backend = RedisBackend(url.format(port=own.port, closed=closed), deadline=5, options=options)
    with driven(backend, mode) as execute, pytest.raises(BackendUnavailable) as told_why:
        execute(HELD[0])
    for secret in ("s3cret", "s3%2Fcret", "s3/cret"):
        assert secret not in _everything(told_why.value, backend) + caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@127.0.0.1:port/0",
        "redis://:s3#cret@127.0.0.1/0",
        pytest.param("redis://:s3/cret@127.0.0.1/0", marks=_wrong("a '/' in a password makes the rest of it the path")),
    ],
)
def test_the_password_of_a_url_that_is_none_is_never_shown(url: str) -> None:
    """A URL that cannot be read is refused without repeating what may be a password in it."""
    backend = RedisBackend(url, deadline=0.2)
    assert "cret" not in f"{backend!r} {backend.url}"
    with pytest.raises((BackendUnavailable, ValueError)) as told_why:
        backend.execute(HELD[0])
    assert "cret" not in "".join(traceback.format_exception_only(told_why.value))


def _everything(error: BaseException, backend: RedisBackend) -> str:
    told = [repr(backend), str(backend), backend.url, *traceback.format_exception(error)]
    cause: BaseException | None = error
    while cause is not None:
        told += [repr(cause), str(cause.args)]
        cause = cause.__cause__ or cause.__context__
    return "\n".join(told)


# Keys that others wrote to

KEYS = ("meta", "open", "due", "log", "users", "policies", "refused", "alerts", "b:0")
HALF = (50,)
STEPS: tuple[Command, ...] = (
    reserve("new", 5, TEN, TOLD),
    reserve("new", 5, TEN, book=True, thresholds=HALF),
    reserve("new", 9, TEN),
    settle("r1", 9),
    release("r1"),
    release("new"),
    extend("r1", ttl=90, amount=6),
    Steer("assign", "u1", {"plan": "pro"}),
    Publish({"default_plan": "pro"}, None),
    Look((TEN,)),
)


def _of_another_type(place: Place, name: str) -> None:
    place.raw.delete(place.key(name))
    place.raw.set(place.key(name), "notanumber")


TORN = _wrong("other keys are written before this one, whose type nothing has looked at")
TORN_BY = {"log": (0, 1, 7, 8), "alerts": (1, 3)}
"""Keys, and the steps that find out too late."""


def _each_step_without(name: str) -> Iterator[Any]:
    for number, step in enumerate(STEPS):
        marks = [TORN] if number in TORN_BY.get(name, ()) else []
        yield pytest.param(name, step, marks=marks, id=f"{name}, {type(step).__name__} {getattr(step, 'id', '')}")


@pytest.mark.parametrize(("name", "step"), [each for name in KEYS for each in _each_step_without(name)])
def test_a_key_of_another_type(name: str, step: Command) -> None:
    """A step that needs it is unavailable and writes nothing at all; a step that does not is carried out whole."""
    place = Place(shared(servers()[-1]))
    backend = place.open(ManualClock())
    say(backend, (reserve("r1", 4, TEN, thresholds=HALF), "held"))
    _of_another_type(place, name)
    before = place.shows()
    try:
        backend.execute(step)
    except BackendUnavailable:
        assert place.shows() == before


GARBAGE = (
    ("meta", "seq", "notanumber"),
    ("meta", "size", "notanumber"),
    ("meta", "size", "0"),
    ("meta", "now", "notanumber"),
    ("meta", "rows", "notanumber"),
    ("open", "r1", "notanumber"),
    ("b:0", TEN.meter, "notanumber"),
)


@pytest.mark.parametrize(("name", "field", "value"), GARBAGE)
def test_garbage_in_a_key(place: Place, name: str, field: str, value: str) -> None:
    """A value that is none of ours: unavailable, nothing is written, and never taken for 0."""
    backend = place.open(ManualClock())
    say(backend, HELD)
    _write(place, name, field, value)
    before = place.shows()
    refuses(backend, settle("r1", 3), extend("r1", amount=9), *([reserve("new", 5, TEN)] if name != "open" else []))
    assert place.shows() == before


def _write(place: Place, name: str, field: str, value: str) -> None:
    rows = {row[:24].decode(): row for rows in place.buckets() for row in rows if len(row) == 30}
    place.raw.hset(place.key(name), rows.get(field, field), value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        *GARBAGE[:-2],
        *(pytest.param(*each, marks=_wrong("a ValueError of the reading comes through")) for each in GARBAGE[-2:]),
    ],
)
def test_garbage_is_no_traceback_of_who_verifies(place: Place, name: str, field: str, value: str) -> None:
    """Whoever verifies a store with garbage in it is told so as of any other store that cannot be used."""
    backend = place.open(ManualClock())
    say(backend, HELD)
    _write(place, name, field, value)
    refuses(backend, Verify())


# State that is lost, as it is lost in practice


def _flushed(server: Server) -> None:
    server.client().flushall()


def _restarted_empty(server: Server) -> None:
    server.kill()
    server.start()


def _restored(server: Server) -> None:
    server.kill()
    server.start()


LOSSES: dict[str, tuple[bool, Callable[[Server], None]]] = {
    "FLUSHALL": (False, _flushed),
    "a restart with nothing kept": (False, _restarted_empty),
    "a restart from an older snapshot": (True, _restored),
}
EVERYTHING: tuple[Command, ...] = (
    reserve("new", 1, TEN),
    reserve("r1", 4, TEN),
    settle("r1", 3),
    release("r1"),
    extend("r1", ttl=90),
    Look((TEN,)),
    Fetch("r1"),
    Profile("u1"),
    PolicyInForce(),
    Verify(),
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_noticed_by_who_had_seen_more(own: Server, loss: str, mode: str) -> None:
    """Whatever it asks for next: unavailable, with a word on what happened; and so it stays."""
    snapshot, lose = LOSSES[loss]
    place = Place(own)
    with driven(place.open(ManualClock()), mode) as execute:
        execute(HELD[0])
        if snapshot:
            place.raw.save()
        execute(reserve("r2", 4, TEN))
        execute(settle("r2", 4))
        lose(own)
        for command in EVERYTHING:
            with pytest.raises(BackendUnavailable, match="recover"):
                execute(command)


@_wrong("the sorted sets are read without a look at the epoch")
def test_a_loss_is_noticed_by_who_reads_refusals(place: Place) -> None:
    backend = place.open(ManualClock())
    say(backend, (reserve("r1", 11, TEN), "denied ten:too_big"), HELD)
    for key in place.shows():
        place.raw.delete(key)
    refuses(backend, Refusals())


_GONE = _wrong("a fixed key that is gone is taken for an empty one")


@pytest.mark.parametrize(
    "name", ["log", *(pytest.param(name, marks=_GONE) for name in ("open", "due", "users", "policies"))]
)
def test_a_key_that_is_gone_is_noticed(place: Place, name: str) -> None:
    """An evicted key of any kind: somebody who needs it is told, and nobody spends what was spent."""
    backend = place.open(ManualClock())
    say(backend, (give("credit", 5), "profile 1, grants credit"))
    say(backend, (Publish({"default_plan": "pro"}, None), "policy 1 pro"), (reserve("r1", 4, TEN, profile=1), "held"))
    place.raw.delete(place.key(name))
    needs: dict[str, Command] = {
        "open": settle("r1", 3),
        "due": reserve("new", 1, TEN, profile=1),
        "log": settle("r1", 3),
        "users": reserve("new", 1, TEN, profile=0),
        "policies": PolicyInForce(),
    }
    refuses(backend, needs[name])


@_wrong("only the number of the newest entry is compared, not which entry it was")
def test_a_rewound_store_is_noticed_though_others_went_on(place: Place) -> None:
    """Somebody who had not seen what was lost writes past the number that this process has seen."""
    backend = place.open(ManualClock())
    say(backend, HELD)
    dumped = {key: place.raw.dump(key) for key in place.shows()}
    say(backend, (settle("r1", 3), "settled 3"), (reserve("r2", 4, TEN), "held"))
    for key, value in dumped.items():
        place.raw.restore(key, 0, value, replace=True)  # type: ignore[arg-type]
    other = place.open(ManualClock())
    for number in range(5):
        say(other, (reserve(f"n{number}", 1, TEN), "held"))
    refuses(backend, Look((TEN,)))


@_wrong("only replies of steps that wrote tell the number of the newest entry")
def test_who_only_read_has_seen_it_too(place: Place) -> None:
    """A process that looked at meters, and never wrote, knows that there was more."""
    writer, reader = place.open(ManualClock()), place.open(ManualClock())
    say(writer, HELD)
    say(reader, (Look((TEN,)), "meters 0/4/0"))
    dumped = {key: place.raw.dump(key) for key in place.shows()}
    say(writer, (settle("r1", 4), "settled 4"))
    say(reader, (Look((TEN,)), "meters 4/0/0"))
    for key, value in dumped.items():
        place.raw.restore(key, 0, value, replace=True)  # type: ignore[arg-type]
    refuses(reader, Look((TEN,)))
