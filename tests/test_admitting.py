"""The bound first: a long prompt is held without being counted where it fits anyhow, and counted where it is close."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from capguard import CapExceeded, Guard
from capguard.admitting import BOUND_FROM
from capguard.pricing import tokens
from capguard.pricing.prompt import count_input
from capguard.pricing.seen import Seen
from tests.kit import held, kinds, last

Opened = Callable[..., Guard]

LETTERS = 40_000
PROMPT = ("word " * (LETTERS // 5)).strip()
COUNTED = count_input("gpt-4o", prompt=PROMPT).upper
PRICES = {"gpt-4o": {"input": 1, "output": 1}, "gpt-4o-mini": {"input": "0.1", "output": "0.1"}}
CALL: dict[str, Any] = {"user": "u1", "model": "gpt-4o", "prompt": PROMPT, "max_tokens": 0}
BOUND_USD, COUNTED_USD = Decimal(len(PROMPT)) / 10**6, Decimal(COUNTED) / 10**6


def policy(*caps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"prices": PRICES, "caps": list(caps), **more}


def cap(limit: object, action: str = "block", **more: Any) -> dict[str, Any]:
    return {"id": action, "limit": str(limit), "action": action, **more}


@pytest.fixture(autouse=True)
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the texts that were counted; nothing was seen before."""
    lengths: list[int] = []
    real = tokens._encoded

    def noted(text: str, *rest: Any) -> Any:
        lengths.append(len(text))
        return real(text, *rest)

    monkeypatch.setattr(tokens, "_seen", Seen())
    monkeypatch.setattr(tokens, "_encoded", noted)
    return lengths


ROOM: list[tuple[str, dict[str, Any], Decimal, str]] = [
    ("far", cap(100), BOUND_USD, "bound"),
    ("far, only told of", cap(100, "warn"), BOUND_USD, "bound"),
    ("far, would steer", cap(100, "downgrade", to="gpt-4o-mini"), BOUND_USD, "bound"),
    ("far, would clamp", cap(100, "clamp"), BOUND_USD, "bound"),
    ("a bound would take more than an eighth", cap(BOUND_USD * 8 - Decimal("0.000001")), COUNTED_USD, "exact"),
    ("exactly an eighth", cap(BOUND_USD * 8), BOUND_USD, "bound"),
    ("only the count fits", cap(COUNTED_USD), COUNTED_USD, "exact"),
    ("only the count fits, told of", cap(COUNTED_USD, "warn"), COUNTED_USD, "exact"),
    ("only the count fits, would steer", cap(COUNTED_USD, "downgrade", to="gpt-4o-mini"), COUNTED_USD, "exact"),
    ("only the count fits, would clamp", cap(COUNTED_USD, "clamp"), COUNTED_USD, "exact"),
    ("only the count fits, would wait", cap(COUNTED_USD, "throttle", window="rolling:60s"), COUNTED_USD, "exact"),
]


@pytest.mark.parametrize(("rule", "usd", "how"), [each[1:] for each in ROOM], ids=[each[0] for each in ROOM])
def test_held_by_the_bound_or_by_the_count(opened: Opened, encoded: list[int], rule: dict, usd: Decimal, how: str):
    """By the bound where there is room and nothing is counted; else exactly, without a warning, a step or a clamp."""
    guard = opened(policy(rule))
    made = guard.reserve(**CALL)
    assert (made.held, made.model, made.decision.passed) == (usd, "gpt-4o", ())
    entry = last(guard)
    assert entry.body["facts"]["how"] == how
    assert entry.flags == ()
    assert (len(PROMPT) in encoded) == (how == "exact")
    assert list(guard.log()) == []
    guard.settle(made, cost=0)


def test_a_spent_cap_refuses_without_counting(opened: Opened, encoded: list[int]):
    """Where even the least that the prompt can have does not fit, it is refused as spent, and told once."""
    guard = opened(policy(cap(1)))
    guard.allow(user="u1", cost="0.9999")
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(**CALL)
    assert refused.value.reason == "exhausted"
    assert encoded == []
    assert [row.count for row in guard.log() if row.kind == "denied"] == [1]


@pytest.mark.parametrize("spent", ["0.000001", "0.0079"])
def test_a_prompt_that_is_too_big_by_its_bound_alone_is_not_too_big(opened: Opened, spent: str):
    """The reason and the amount of a refusal are those of the count, also where the least would not fit."""
    guard = opened(policy(cap(COUNTED_USD)))
    guard.allow(user="u1", cost=spent)
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(**CALL)
    assert (refused.value.reason, refused.value.cap.requested) == ("exhausted", COUNTED_USD)


OTHERS = [(COUNTED_USD * 2 - Decimal("0.000001"), "0", COUNTED_USD), (Decimal("0.05"), "0.02", Decimal("0.0298"))]


@pytest.mark.parametrize(("limit", "settled", "held"), OTHERS)
def test_what_others_hold_is_in_flight(opened: Opened, limit: Decimal, settled: str, held: Decimal):
    """A call that others crowd out is counted before it is refused: by its bound alone the cap would look spent."""
    guard = opened(policy(cap(limit)))
    guard.allow(user="u1", cost=settled)
    first = guard.reserve(user="u1", cost=held)
    with pytest.raises(CapExceeded) as refused:
        guard.reserve(**CALL)
    assert refused.value.reason == "in_flight"
    guard.release(first)


def test_the_check_of_a_long_prompt_says_what_the_reserve_would(opened: Opened):
    """Asking first by the bound changes no answer of `check`, and leaves nothing behind."""
    guard = opened(policy(cap(COUNTED_USD)))
    assert guard.check(**CALL)
    guard.allow(user="u1", cost="0.000001")
    assert not guard.check(**CALL)
    assert kinds(guard) == ["book"]
    assert list(guard.log()) == []


def test_what_is_booked_at_once_is_counted(opened: Opened):
    """`allow` settles what it holds: never a bound."""
    guard = opened(policy(cap(100)))
    assert guard.allow(**CALL)
    assert last(guard).cost == COUNTED_USD


def test_a_repeat_of_a_long_call_is_the_same_call(opened: Opened):
    """By its id, whatever became of it."""
    guard = opened(policy(cap(100)))
    first, again = (guard.reserve(**CALL, id="one") for _ in range(2))
    assert first.held == again.held == held(guard, "block")
    assert kinds(guard) == ["reserve"]
    guard.release(first)


async def test_async_too(opened: Opened):
    """The same flow."""
    guard = opened(policy(cap(COUNTED_USD)))
    made = await guard.areserve(**CALL)
    assert made.held == COUNTED_USD
    await guard.arelease(made)


@pytest.mark.parametrize(("letters", "how"), [(BOUND_FROM - 1, "exact"), (BOUND_FROM, "bound")])
def test_short_prompts_are_counted(opened: Opened, letters: int, how: str):
    """Counting them is quicker than asking a backend twice."""
    guard = opened(policy(cap(100)))
    guard.release(guard.reserve(**CALL | {"prompt": "a" * letters}))
    assert next(iter(guard.entries())).body["facts"]["how"] == how


def test_expected_by_a_guess_at_the_bound(opened: Opened):
    """What an uncertain end books is a likely cost, not the bound."""
    guard = opened(policy(cap(100)))
    made = guard.reserve(**CALL)
    assert made.expected == Decimal(-(-len(PROMPT) // 3)) / 10**6
    guard.release(made)


def test_a_stream_without_usage_books_its_input_counted(opened: Opened):
    """A prompt that was held by its bound is counted where nobody reports its size."""
    guard = opened(policy(cap(100)))
    with guard.call(**CALL) as call:
        assert list(call.stream(iter(["one two"]))) == ["one two"]
    entry = last(guard)
    assert entry.flags == ("counted",)
    assert entry.cost == COUNTED_USD + Decimal("0.000002")
