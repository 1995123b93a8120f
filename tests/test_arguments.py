"""Bad input: every public entry says what was wrong and what is allowed, and nothing changes."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from capguard import Cap, Guard, Identity, Policy, PolicyError, Usage, identify
from tests.kit import CALL, MESSAGES, POLICY, spent

Opened = Callable[..., Guard]

NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - refused below
MONEY = [
    float("nan"), float("inf"), float("-inf"), Decimal("NaN"), Decimal("Infinity"), Decimal(-1), -1, -0.01, True,
    False, "1_000", "١٢", "１２", " 5 ", "5 USD", "$5", "1,5", "0x10", "1e400", "1e999999", "-1", "--1", "+1", "nan",
    "inf", "", ".", "e5", 10**60, 10**5000, 9_007_200,
    "9007199.254740992", "9" * 41, b"5", [5], {"usd": 5}, 5j, object(),
]  # fmt: skip
NAMES = ["", "x" * 257, "x" * 10_000, "a\x00b", "a\nb", "a\r\nb", "\x7f", "\x85", "\ud800", 5, True, b"u1", ["u1"], 1.5]
COUNTS = [-1, 2**31, 10**60, 1.0, 1.5, True, "5", "", float("nan"), [5], b"5"]
TTLS = [0, -1, 86_401, 10**60, True, "60", float("nan"), float("inf"), [60]]


def sampled(value: object) -> str:
    """A short name of a case."""
    return f"{type(value).__name__}-{value!a:.12}" if not isinstance(value, int) else f"int-{value.bit_length()}bits"


def cases(name: str, values: list[Any]) -> Iterator[Any]:
    for value in values:
        yield pytest.param({name: value}, id=f"{name}-{sampled(value)}")


CALLS = [
    *cases("cost", MONEY),
    *cases("amount", MONEY),
    *(each for name in ("user", "plan", "org", "key_id", "session", "unit") for each in cases(name, NAMES)),
    *cases("model", NAMES),
    *cases("id", [*NAMES, "x" * 201]),
    *cases("max_tokens", COUNTS),
    *cases("max_completion_tokens", COUNTS),
    *cases("n", [*COUNTS, 0, 1025]),
    *cases("ttl", TTLS),
    *cases("usage", [5, "10", {"input_tokens": 5}, True]),
    *cases("tags", [5, "env", ["env"], {"": "x"}, {"env": ""}, {"env": 5}, {5: "x"}, {"env": "\x00"}]),
    *cases("tags", [{str(each): "x" for each in range(33)}]),
    *cases("caps", [5, "monthly", {"id": "x"}, [{"id": "x", "limit": 5}], [None], True]),
    *cases("identity", [5, "u1", ["u1"], {"usr": "u1"}, {"user": ""}]),
    *cases("unknown", [1]),
    *cases("Model", ["big"]),
]


def full(arguments: dict[str, Any]) -> dict[str, Any]:
    """A call that would pass, but for these arguments."""
    (name,) = arguments
    if name == "unit":
        return {"user": "u1", "amount": 1, **arguments}
    if name in ("cost", "amount", "usage"):
        return {"user": "u1", **arguments}
    return {key: value for key, value in CALL.items() if name != "max_completion_tokens" or key != "max_tokens"} | (
        arguments
    )


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    """One ledger for the whole table: the last test looks at it."""
    with Guard("memory://", policy=POLICY) as guard:
        yield guard


def refuses(guard: Guard, attempt: Callable[[], Any]) -> str:
    """What an attempt is refused with; nothing changed."""
    before = guard.verify()
    with pytest.raises((ValueError, TypeError)) as caught:
        attempt()
    assert guard.verify() == before
    told = str(caught.value)
    assert type(caught.value) in (ValueError, TypeError), type(caught.value)
    assert 10 < len(told) < 500, told
    return told


PLACES = {"tags": ("tag",), "identity": ("user",)}
VERBS = ["reserve", "call", "check", "allow", "areserve", "acheck", "aallow"]


@pytest.mark.parametrize("arguments", CALLS)
def test_a_call(guard: Guard, arguments: dict[str, Any]):
    """Every verb that takes a call refuses it alike, before anything is held."""
    told = set()
    for verb in VERBS:
        ask = getattr(guard, verb)
        call = full(arguments)
        attempt = (lambda ask=ask, call=call: asyncio.run(ask(**call))) if verb[0] == "a" and verb != "allow" else None
        told.add(refuses(guard, attempt or (lambda ask=ask, call=call: ask(**call))))
    assert len(told) == 1
    (said,) = told
    assert any(name in said for name in {*arguments, *PLACES.get(next(iter(arguments)), ())})


CONTRADICTIONS = [
    ({"user": "u1"}, "needs a model"),
    ({"user": "u1", "cost": 1, "amount": 1}, "say the same thing"),
    ({"user": "u1", "cost": 1, "usage": Usage()}, "say the same thing"),
    ({**CALL, "max_output_tokens": 5}, "say the same thing"),
    ({"user": "u1", "amount": 1, "unit": "credit"}, "unit"),
    ({"user": "u1", "amount": 1, "unit": "USD"}, "allowed: .*usd"),
    ({"user": "u1", "unit": "tokens", "amount": "1e20"}, "larger"),
]


@pytest.mark.parametrize(("call", "said"), CONTRADICTIONS)
def test_what_does_not_go_together(guard: Guard, call: dict[str, Any], said: str):
    """Said twice, or not at all."""
    assert re.search(said, refuses(guard, lambda: guard.reserve(**call)))


PROMPTS = [
    {"messages": 5}, {"messages": "text"}, {"messages": [None]}, {"messages": [5]}, {"messages": [{}]},
    {"messages": {"role": "user"}}, {"messages": [{"role": "user", "content": float("nan")}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    {"messages": [{"role": "user", "content": "\ud800"}]}, {"prompt": 5}, {"prompt": b"bytes"}, {"prompt": ["a", 5]},
    {"prompt": [1, 2, 3]}, {"input": float("nan")}, {"input": [[1, 2], [3]]}, {"tools": 5, "prompt": "x"},
    {"tools": [{"type": "function"}], "prompt": "x"}, {"system": ["x"], "prompt": "x"}, {"messages": [{1: 2, "a": 3}]},
    {"prompt": "x" * 1_000_000}, {"prompt": "\x00" * 1000}, {"messages": [object()]},
]  # fmt: skip


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: re.sub(" at 0x.*?>", ">", f"{prompt!a}")[:60])
def test_odd_prompts(opened: Opened, prompt: dict[str, Any]):
    """A prompt is the provider's to judge: it is counted as well as may be, or refused clearly; and never lost."""
    guard = opened({**POLICY, "caps": [{"id": "monthly", "limit": 5000}]})
    ask = functools.partial(guard.reserve, user="u1", model="big", id="odd", **prompt)
    try:
        reservation = ask()
    except (ValueError, TypeError):
        refuses(guard, ask)
    else:
        assert reservation.held > 0
        assert ask() == reservation


@pytest.fixture
def held_call(opened: Opened) -> tuple[Guard, Any]:
    guard = opened(POLICY)
    return guard, guard.reserve(user="u1", cost=1, id="held")


@pytest.mark.parametrize("cost", MONEY, ids=sampled)
def test_settling(held_call: tuple[Guard, Any], cost: object):
    """By the reservation, by its id, in a block and by an extend: refused, and the hold stays as it was."""
    guard, reservation = held_call
    for which in (reservation, reservation.id):
        refuses(guard, lambda which=which: guard.settle(which, cost=cost))
        refuses(guard, lambda which=which: asyncio.run(guard.asettle(which, cost=cost)))
        refuses(guard, lambda which=which: guard.extend(which, amount=cost))
    assert guard.status(user="u1").caps["monthly"].held == 1
    with guard.call(user="u1", cost=1) as call:
        with pytest.raises(ValueError, match="cost"):
            call.settle(cost=cost)
        call.settle(cost=1)
    assert spent(guard) == 1


@pytest.mark.parametrize(
    "said",
    [{"usage": 5}, {"usage": {"input_tokens": 5}}, {"cost": 1, "usage": Usage()}, {"response": {}, "cost": 1}],
    ids=str,
)
def test_settling_with_something_else(held_call: tuple[Guard, Any], said: dict[str, Any]):
    """A usage is a Usage, and a cost is said once."""
    guard, reservation = held_call
    refuses(guard, lambda: guard.settle(reservation, **said))
    with guard.call(user="u1", cost=1) as call, pytest.raises(ValueError, match="usage"):
        call.settle(**said)


@pytest.mark.parametrize("which", [*NAMES, None, "x" * 201], ids=sampled)
def test_ids(held_call: tuple[Guard, Any], which: Any):
    """Every verb that takes one."""
    guard, _ = held_call
    refuses(guard, lambda: guard.settle(which, cost=1))
    refuses(guard, lambda: guard.release(which))
    refuses(guard, lambda: guard.extend(which, ttl=60))
    refuses(guard, lambda: asyncio.run(guard.arelease(which)))


@pytest.mark.parametrize("ttl", TTLS, ids=sampled)
def test_ttls(held_call: tuple[Guard, Any], ttl: Any):
    guard, reservation = held_call
    assert "ttl" in refuses(guard, lambda: guard.extend(reservation, ttl=ttl))


LOOKS: list[tuple[str, dict[str, Any]]] = [
    *[("status", {name: each}) for name in ("user", "plan", "session") for each in NAMES],
    ("status", {"usr": "u1"}),
    ("status", {"model": "big"}),
    ("status", {"tags": {"": ""}}),
    ("status", {"identity": "u1"}),
    *[("entries", {"user": each}) for each in NAMES],
    *[("entries", {name: each}) for name in ("since", "until") for each in (NAIVE, "2026-01-01", 0, 1.5, True)],
    *[("entries", {"after": each}) for each in (-1, 1.0, "1", True, None)],
    ("entries", {"usr": "u1"}),
]


@pytest.mark.parametrize(("verb", "arguments"), LOOKS, ids=str)
def test_looking(guard: Guard, verb: str, arguments: dict[str, Any]):
    """Refused at once, not when the first line is read; sync and async alike."""
    told = refuses(guard, lambda: getattr(guard, verb)(**arguments))
    found = getattr(guard, f"a{verb}")
    other = refuses(guard, lambda: found(**arguments) if verb == "entries" else asyncio.run(found(**arguments)))
    assert other.replace(".aentries", ".entries") == told


IDENTITIES: list[Callable[[], Any]] = [
    *[lambda each=each: Identity(user=each) for each in NAMES],
    *[lambda each=each: identify(feature=each) for each in NAMES],
    lambda: Identity(tags={"env": 5}),  # type: ignore[dict-item]
    lambda: identify(usr="u1"),
    lambda: identify("u1"),  # type: ignore[arg-type]
    lambda: identify(tags=["x"]),
]


@pytest.mark.parametrize("make", IDENTITIES)
def test_identities(guard: Guard, make: Callable[[], Any]):
    refuses(guard, make)


USAGES = [
    *[{name: each} for name in ("input_tokens", "output_tokens", "requests") for each in [*COUNTS[2:], -1, 2**53]],
    {"cache_read_tokens": 5},
    {"reasoning_tokens": 5},
    *[{"quantities": {"images": each}} for each in ("nan", -1, 1.5, True, "1_000", None)],
    {"quantities": {"": 1}},
]


@pytest.mark.parametrize("counts", USAGES, ids=lambda counts: f"{counts!a:.50}")
def test_usages(guard: Guard, counts: dict[str, Any]):
    refuses(guard, lambda: Usage(**counts))


@pytest.mark.parametrize("limit", MONEY, ids=sampled)
def test_limits(limit: Any):
    """A policy is refused with place and allowed values."""
    for make in (lambda: Cap(id="m", limit=limit), lambda: Policy(caps=[{"id": "m", "limit": limit}])):
        with pytest.raises(PolicyError, match="limit") as caught:
            make()
        assert "allowed" in str(caught.value)


def test_messages_of_a_call_are_not_in_its_errors(guard: Guard):
    """What users wrote does not end up in a log."""
    secret = [{"role": "user", "content": "my secret"}]
    assert "secret" not in refuses(guard, lambda: guard.reserve(user="u1", messages=secret, cost="x"))
    assert "secret" not in refuses(guard, lambda: guard.reserve(user="u1", messages=secret, n=-1))


GOOD = [
    {"cost": "0.0123"}, {"cost": 0}, {"cost": "1e-9"}, {"cost": 1e-9}, {"cost": Decimal("1E+2")}, {"cost": 9_007_199},
    {"cost": ".5"}, {"cost": "5."}, {"amount": 1, "unit": "tokens"}, {"usage": Usage(input_tokens=1)},
    {"prompt": ""}, {"messages": MESSAGES, "n": 1024}, {"prompt": "x", "max_tokens": 2**31 - 1},
    {"cost": 0, "ttl": 0.001},
    {"cost": 0, "id": "x" * 200}, {"cost": 0, "id": "order 1/ü{}:*"}, {"cost": 0, "org": "x" * 256},
    {"cost": 0, "tags": {str(each): "x" for each in range(32)}}, {"cost": 0, "caps": []}, {"cost": 0, "caps": None},
    {"cost": 0, "plan": None, "feature": None, "identity": None, "id": None, "max_tokens": None, "n": None},
    {"cost": 0, "user": "日本 🙂 O'Brien; DROP TABLE"}, {"model": "m" * 256, "prompt": "x"},
]  # fmt: skip


@pytest.mark.parametrize("call", GOOD, ids=lambda call: f"{call!a:.60}")
def test_what_is_allowed(opened: Opened, call: dict[str, Any]):
    """The edges on the good side."""
    guard = opened({"prices": POLICY["prices"]})
    guard.settle(guard.reserve(**{"user": "u1", **call}), cost=0)


def test_nothing_changed(guard: Guard):
    """After all of the above, the shared ledger is as empty as it was."""
    found = guard.verify()
    assert found
    assert (found.entries, found.meters, found.open) == (0, 0, 0)
