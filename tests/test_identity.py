"""Who is calling: what names the caller, how far a name reaches, and that no two callers share a meter."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from capguard import Cap, CapExceeded, Guard, Identity, IdentityMissing, carry, identify
from capguard.identity import context
from tests.kit import CALL, PRICES, last, spent

Opened = Callable[..., Guard]

BY_USER = {"caps": [{"id": "monthly", "limit": 5}]}


def who(guard: Guard, **call: Any) -> dict[str, str]:
    """The identity that a call is booked for."""
    guard.release(guard.reserve(cost="0.01", **call))
    return dict(list(guard.entries())[-2].body["identity"])


# precedence


def test_precedence_of_every_field(opened: Opened):
    """Explicit over `identity=` over the innermost context over the outer ones, field by field."""
    guard = opened({**BY_USER, "plans": {"free": {}, "pro": {}}})
    with identify(user="outer", org="acme", team="red", tags={"env": "test", "app": "web"}):
        assert who(guard) == {"user": "outer", "org": "acme", "team": "red", "tag:env": "test", "tag:app": "web"}
        with identify(user="inner", plan="free", tags={"env": "live"}):
            assert who(guard)["user"] == "inner"
            assert who(guard)["tag:env"] == "live"
            given = Identity(user="object", feature="chat")
            found = who(guard, identity=given, user="explicit", tags={"app": "cli"})
            assert found == {
                "user": "explicit",
                "plan": "free",
                "org": "acme",
                "team": "red",
                "feature": "chat",
                "tag:env": "live",
                "tag:app": "cli",
            }
            assert who(guard, identity=given)["user"] == "object"
            assert who(guard, identity={"user": "mapping"})["user"] == "mapping"
        assert who(guard)["user"] == "outer"


POLICY = {
    "default_plan": "free",
    "plans": {name: {"caps": [{"id": name, "limit": 5}]} for name in ("free", "pro", "team")},
    "users": {"vip": {"plan": "team"}},
}
PLANS = [
    ({"user": "u1"}, None, "free"),
    ({"user": "u1"}, "pro", "pro"),
    ({"user": "u1", "plan": "team"}, "pro", "team"),
    ({"user": "vip"}, None, "team"),
    ({"user": "vip"}, "pro", "pro"),
    ({"user": "vip", "plan": "free"}, "pro", "free"),
    ({"user": "u1", "plan": "gold"}, None, "free"),
    ({"user": "vip", "plan": "gold"}, None, "free"),
]


@pytest.mark.parametrize(("named", "around", "plan"), PLANS)
def test_the_plan(opened: Opened, named: dict[str, str], around: str | None, plan: str):
    """Argument > context > [users.X] > default_plan; an unknown one falls to the default, flagged."""
    guard = opened(POLICY)
    with identify(plan=around) if around else identify(org="acme"):
        reservation = guard.reserve(cost=1, **named)
        assert guard.status(**named).plan == plan
    assert reservation.caps == (plan,)
    assert last(guard).body["identity"]["plan"] == plan
    assert ("unknown_plan" in last(guard).flags) == (named.get("plan") == "gold")


def test_an_unknown_plan_without_a_default_is_refused(opened: Opened):
    """There is nothing to fall to."""
    guard = opened({key: value for key, value in POLICY.items() if key != "default_plan"})
    with pytest.raises(IdentityMissing, match="gold"):
        guard.reserve(user="u1", plan="gold", cost=1)
    assert list(guard.entries()) == []


# how far it reaches


def test_blocks_restore(opened: Opened):
    """Left in any way, a block takes its names with it."""
    assert context().identity == Identity()
    with identify(user="a"):
        with pytest.raises(KeyError), identify(user="b", plan="pro"):
            raise KeyError
        assert context().identity == Identity(user="a")
    assert context().identity == Identity()


async def test_async_blocks():
    async with identify(user="a") as outer, identify(plan="pro") as inner:
        assert (outer, inner) == (Identity(user="a"), Identity(user="a", plan="pro"))
        assert context().identity == inner
    assert context().identity == Identity()


def test_a_block_may_be_entered_again():
    """The same names, each time."""
    named = identify(user="a")
    for _ in range(2):
        with named as found:
            assert found == context().identity == Identity(user="a")
        assert context().identity == Identity()


def complete() -> None:
    identify(plan="pro", tags={"env": "live"})


def in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=carry(work))
    thread.start()
    thread.join()


async def in_task(work: Callable[[], None]) -> None:
    async def run() -> None:
        work()

    await asyncio.create_task(run())


@pytest.mark.parametrize("where", ["here", "a thread", "a task", "a sync dependency", "a callback"])
async def test_a_later_dependency_completes_the_context(where: str):
    """`identify(...)` as a statement names more for everything in the scope, wherever it runs, until its end."""
    with identify(user="a", tags={"app": "web"}):
        match where:
            case "here":
                complete()
            case "a thread":
                in_thread(complete)
            case "a task":
                await in_task(complete)
            case "a sync dependency":
                await asyncio.to_thread(complete)
            case _:
                asyncio.get_running_loop().call_soon(complete)
                await asyncio.sleep(0)
        assert context().identity == Identity(user="a", plan="pro", tags={"app": "web", "env": "live"})
        with identify(user="b"):
            assert context().identity == Identity(user="b", plan="pro", tags={"app": "web", "env": "live"})
    assert context().identity == Identity()


def test_a_statement_without_a_scope_holds_in_its_context():
    """A script may name its caller once."""

    def script() -> Identity:
        identify(user="a")
        identify(plan="pro")
        return context().identity

    assert contextvars.Context().run(script) == Identity(user="a", plan="pro")
    assert context().identity == Identity()


def test_a_statement_that_is_kept_in_a_name():
    """`named = identify(...)` names the caller at once, here, and for the others when the name goes."""

    def dependency() -> Identity:
        named = identify(plan="pro")
        assert named is not None
        return context().identity

    with identify(user="a"):
        assert dependency() == Identity(user="a", plan="pro")
        assert context().identity == Identity(user="a", plan="pro")


def test_a_refused_statement_changes_nothing():
    """A wrong value names nobody."""
    with identify(user="a"):
        for wrong in ({"user": ""}, {"usr": "b"}, {"tags": {"": "x"}}, {"user": 5}):
            with pytest.raises(ValueError, match="allowed"):
                identify(**wrong)
        assert context().identity == Identity(user="a")


def test_parallel_blocks_of_one_scope_never_mix():
    """Threads that share an outer scope and open their own: each is itself, and the outer one stays as it was."""
    wrong: list[Any] = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(name: str) -> None:
        for _ in range(2000):
            with identify(user=name, plan=name):
                if context().identity != Identity(user=name, plan=name, org="acme"):
                    wrong.append(context().identity)

    def look() -> None:
        for _ in range(5000):
            wrong.extend({context().identity.user} - {None})

    try:
        with identify(org="acme"):
            threads = [threading.Thread(target=carry(work), args=(name,)) for name in "abc"]
            threads.append(threading.Thread(target=carry(look)))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert context().identity == Identity(org="acme")
    finally:
        sys.setswitchinterval(before)
    assert wrong == []


async def test_parallel_tasks_of_one_scope_never_mix():
    """As threads."""

    async def work(name: str) -> None:
        for _ in range(20):
            async with identify(user=name):
                await asyncio.sleep(0)
                assert context().identity == Identity(user=name, org="acme")

    with identify(org="acme"):
        await asyncio.gather(*(work(name) for name in "abc"))
        assert context().identity == Identity(org="acme")


def test_thread_pools_need_carry():
    """A pool's thread knows nobody; `carry` takes the context of when it was called, and may run many times."""
    with ThreadPoolExecutor(2) as pool, identify(user="a"):
        assert pool.submit(lambda: context().identity).result() == Identity()
        carried = carry(lambda more: (context().identity.user, more))
        with identify(user="b"):
            assert [pool.submit(carried, each).result() for each in (1, 2)] == [("a", 1), ("a", 2)]


def test_a_call_is_for_whom_it_was_made(opened: Opened):
    """The identity is that of the place that makes the call, not of the one that enters it."""
    guard = opened(BY_USER)
    with identify(user="a"):
        call = guard.call(cost=1)
    with identify(user="b"), call:
        call.settle(cost=1)
    assert (spent(guard, user="a"), spent(guard, user="b")) == (1, 0)


def test_caps_of_a_context(opened: Opened):
    """They hold for every call inside, beside the policy's, and add up over blocks."""
    guard = opened(BY_USER)
    run, step = Cap(id="run", limit=2, per=["session"]), Cap(id="step", limit=1, per=["session"])
    with identify(user="u1", session="s1", caps=[run]):
        assert guard.reserve(cost=1).caps == ("monthly", "run")
        with identify(caps=[step]):
            assert guard.check(cost=1).allowed
            with pytest.raises(CapExceeded) as refused:
                guard.reserve(cost="1.5")
        assert [cap.id for cap in refused.value.caps] == ["run", "step"]
        assert [cap.id for cap in guard.status().caps] == ["monthly", "run"]
    assert guard.reserve(user="u1", cost=1).caps == ("monthly",)


# missing


MISSING = [
    ({}, {}, IdentityMissing),
    ({"failure": {"missing_identity": "anonymous"}}, {}, None),
    ({"caps": [{"id": "org", "per": ["org"], "limit": 1}]}, {}, None),
    ({"caps": [{"id": "org", "per": ["org"], "limit": 1, "required": True}]}, {"user": "u1"}, IdentityMissing),
    ({"caps": [{"id": "tag", "per": ["tag:env"], "limit": 1, "required": True}]}, {"user": "u1"}, IdentityMissing),
    ({"caps": [{"id": "both", "per": ["user", "org"], "limit": 1}]}, {"user": "u1"}, None),
    ({"caps": [{"id": "all", "per": [], "limit": 1}]}, {}, None),
]


@pytest.mark.parametrize(("policy", "named", "raises"), MISSING)
def test_a_missing_field(opened: Opened, policy: dict[str, Any], named: dict[str, str], raises: Any):
    """The user is denied or anonymous, as the policy says; for other fields the cap does not apply, or is required."""
    guard = opened({**BY_USER, **policy})
    if raises is None:
        guard.reserve(cost="0.5", **named)
        return
    with pytest.raises(raises, match="names no"):
        guard.reserve(cost="0.5", **named)
    assert list(guard.entries()) == []


def test_the_anonymous_share_one_meter(opened: Opened):
    """Nobody's spend is counted, and counted together: never no cap."""
    guard = opened({**BY_USER, "failure": {"missing_identity": "anonymous"}})
    guard.settle(guard.reserve(cost=3), cost=3)
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(cost=3)
    assert refused.value.cap.scope == {"user": None}
    assert "user=anonymous" in str(refused.value)
    guard.reserve(user="anonymous", cost=5)
    guard.reserve(user="None", cost=5)


def test_counted_per_tag(opened: Opened):
    """`per = ["tag:env"]`: one meter per value, none where there is no such tag."""
    guard = opened({"caps": [{"id": "env", "per": ["tag:env"], "limit": 1}]})
    for env in ("live", "test"):
        guard.reserve(cost=1, tags={"env": env})
        with pytest.raises(CapExceeded) as refused:
            guard.reserve(cost=1, tags={"env": env})
        assert refused.value.cap.scope == {"tag:env": env}
    assert guard.reserve(cost=9, tags={"other": "live"}).caps == ()


# look-alikes


NFC, NFD = unicodedata.normalize("NFC", "josé"), unicodedata.normalize("NFD", "josé")
PAIRS = [
    ({"org": "a:b", "user": "c"}, {"org": "a", "user": "b:c"}),
    ({"org": "a,b", "user": "c"}, {"org": "a", "user": "b,c"}),
    ({"org": 'a","b', "user": "c"}, {"org": "a", "user": 'b","c'}),
    ({"org": "a\\", "user": "b"}, {"org": "a", "user": "\\b"}),
    ({"org": "o", "user": NFC}, {"org": "o", "user": NFD}),
    ({"org": "o", "user": "Ann"}, {"org": "o", "user": "ann"}),
    ({"org": "o", "user": "STRASSE"}, {"org": "o", "user": "straße"}),
    ({"org": "o", "user": "a"}, {"org": "o", "user": "a "}),
    ({"org": "o", "user": "1"}, {"org": "o", "user": "１"}),
    ({"org": "o", "user": "{x}"}, {"org": "o", "user": "x"}),
    ({"org": "o", "user": "*"}, {"org": "o", "user": "?"}),
    ({"org": "null", "user": "null"}, {"org": "null", "user": "None"}),
    ({"org": "a\u200b", "user": "u"}, {"org": "a", "user": "u"}),
    ({"org": "x", "user": "y"}, {"org": "y", "user": "x"}),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_look_alikes_never_share_a_meter(opened: Opened, one: dict[str, str], other: dict[str, str]):
    """Whatever their names look like, joined, folded or normalised: each spends its own."""
    guard = opened({"caps": [{"id": "both", "per": ["org", "user"], "limit": 1}]})
    for named in (one, other):
        guard.settle(guard.reserve(cost=1, **named), cost=1)
        with pytest.raises(CapExceeded):
            guard.reserve(cost=1, **named)
        assert guard.status(**named).caps["both"].scope == named
        assert {entry.user for entry in guard.entries(user=named["user"])} == {named["user"]}


def test_patterns_are_no_names(opened: Opened):
    """`*` in a match is a pattern; a user who is called so is matched as any other, and is nobody else."""
    guard = opened({"prices": PRICES, "caps": [{"id": "bots", "match": {"user": "bot-*"}, "limit": 1}]})
    assert guard.reserve(**{**CALL, "user": "bot-1"}).caps == ("bots",)
    assert guard.reserve(**{**CALL, "user": "*"}).caps == ()
    assert guard.reserve(**{**CALL, "user": "BOT-1"}).caps == ()


def test_an_identity_is_a_value():
    """Compared by its fields; what is not set is left out of its dict."""
    one = Identity(user="a", tags={"env": "live"})
    assert one == Identity(user="a", tags={"env": "live"}) != Identity(user="a")
    assert one.to_dict() == {"user": "a", "tag:env": "live"}
    assert (one.value("user"), one.value("plan"), one.value("tag:env"), one.value("tag:x")) == ("a", None, "live", None)
    assert one.over(Identity(user="b", org="o")) == Identity(user="a", org="o", tags={"env": "live"})


def test_money_of_two_scopes_is_separate(opened: Opened):
    """Tags do not change whose user meter it is."""
    guard = opened(BY_USER)
    for env in ("live", "test"):
        guard.settle(guard.reserve(user="u1", tags={"env": env}, cost=1), cost="0.75")
    assert spent(guard) == Decimal("1.5")
