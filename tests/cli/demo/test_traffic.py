"""Who calls when in the demo: a slice of the real trace, drawn by a seed."""

from __future__ import annotations

from collections import Counter

import pytest

from capguard.cli.demo.desk import text_of
from capguard.cli.demo.traffic import MAX_TOKENS, asks, plans_of
from capguard.pricing.prompt import count_input
from capguard.testing.trace import load_trace


@pytest.mark.parametrize(("seconds", "requests"), [(3, 300), (6, 600), (30, 3000), (600, 3000)])
def test_a_slice_of_the_trace(seconds: int, requests: int) -> None:
    """A hundred requests per second, all of the trace at most, in order, within the time; tokens as in the trace."""
    todo = asks(seconds, 50, seed=1)
    assert [ask[4:] for ask in todo] == [request[1:] for request in load_trace(requests)]
    assert [ask.after_s for ask in todo] == sorted(ask.after_s for ask in todo)
    assert 0 == todo[0].after_s < todo[-1].after_s < seconds
    assert len({ask.id for ask in todo}) == requests


def test_a_seed_says_all() -> None:
    assert asks(6, 50, seed=1) == asks(6, 50, seed=1)
    assert asks(6, 50, seed=1) != asks(6, 50, seed=2)


@pytest.mark.parametrize("seed", range(5))
def test_plans(seed: int) -> None:
    """Of any ten users six are free, three pro, one team, so that heavy users of each plan exist whatever the seed."""
    plans = plans_of(35, seed)
    assert len(plans) == 35
    for start in (0, 10, 20):
        assert Counter(plans[start : start + 10]) == {"free": 6, "pro": 3, "team": 1}


def test_a_user_has_one_plan() -> None:
    todo = asks(30, 300, seed=7)
    assert len({(ask.user, ask.plan) for ask in todo}) == len({ask.user for ask in todo})


def test_replies_fit_the_output_limit() -> None:
    """What is held covers what comes, so that no cap is overrun."""
    assert max(ask.output_tokens for ask in asks(30, 300, seed=7)) <= MAX_TOKENS


@pytest.mark.parametrize("tokens", [20, 374, 4000])
def test_texts_have_the_length_of_the_trace(tokens: int) -> None:
    """The prompt counts as many tokens as the trace says: the estimate counts something real."""
    counted = count_input("gpt-4o", messages=[{"role": "user", "content": text_of(tokens)}])
    assert counted.how == "bound" or tokens - 2 <= counted.tokens <= tokens


def test_cost() -> None:
    """By capguard's own book: gpt-4o takes 2.50 and 10 dollars per million tokens."""
    ask = asks(3, 10, seed=1)[0]
    assert ask.cost() == 374 * 2500 + 44 * 10_000
