"""How long replies usually are: the histogram, and its merging across processes."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capguard.habits import ENOUGH, Habits

KIND = ("chat", "gpt-4o")


def learned(lengths: list[int]) -> Habits:
    habits = Habits()
    for length in lengths:
        habits.learn(*KIND, length)
    return habits


@given(st.lists(st.integers(0, 2**31), min_size=ENOUGH, max_size=80))
def test_never_below_the_quantile_and_close_to_it(lengths: list[int]):
    """At most an eighth above the longest, and never below the shortest."""
    habit = learned(lengths).of(*KIND)
    assert habit is not None
    assert min(lengths) <= habit.most <= max(lengths) * 9 // 8 + 1
    assert habit.usual <= max(lengths) * 9 // 8 + 1


def test_ties_are_met_exactly():
    """Short replies of a few lengths, where other estimators fail: one in a hundred is above."""
    draw = random.Random(1)
    lengths = [draw.choice([3, 4, 5, 8]) for _ in range(2000)]
    assert learned(lengths).of(*KIND).most == 8


def test_it_follows_a_shift():
    """Replies become six times longer: a few hundred later that is what is held."""
    draw = random.Random(2)
    short, long = ([draw.randint(50, 150) * scale for _ in range(600)] for scale in (1, 6))
    assert learned(short).of(*KIND).most < 200
    assert 800 < learned(short + long).of(*KIND).most < 1100
    assert learned(long + short * 3).of(*KIND).most < 200


def test_nothing_is_believed_before_there_is_enough():
    """Thirty replies of one kind; other kinds do not count."""
    habits = learned([100] * (ENOUGH - 1))
    habits.learn("other", "gpt-4o", 100)
    assert habits.of(*KIND) is None
    habits.learn(*KIND, 100)
    assert habits.of(*KIND).most == 103
    assert habits.of(None, "gpt-4o") is None


def test_weights_stay_finite():
    """A hundred thousand replies."""
    assert learned([100] * 100_000).of(*KIND).most == 103


def test_what_others_learned():
    """Exports are plain JSON; they count in place of what was merged before, so that nothing counts twice."""
    one, two = learned([100] * 20), learned([1000] * 20)
    export = json.loads(json.dumps(two.export()))
    for _ in range(3):
        one.merge([export])
        assert one.of(*KIND).most == 1023
    assert one.export() == learned([100] * 20).export()
    one.merge([])
    assert one.of(*KIND) is None


def test_a_process_that_learned_nothing_knows_what_others_do():
    """A new process begins with the habits of the old ones."""
    fresh = Habits()
    fresh.merge([learned([100] * 20).export(), learned([100] * 20).export()])
    assert fresh.of(*KIND).most == 103
    fresh.learn(*KIND, 100)
    assert fresh.of(*KIND).most == 103


@pytest.mark.parametrize(
    "export", [{}, {"kinds": 5}, {"kinds": [["a", "b"]]}, {"kinds": [["a", "b", {"count": "x", "weights": {}}]]}, None]
)
def test_what_is_no_export_is_refused(export: Any):
    """And changes nothing."""
    habits = learned([100] * ENOUGH)
    with pytest.raises(ValueError, match=r"allowed: what export\(\) gave"):
        habits.merge([export])
    assert habits.of(*KIND).most == 103


def test_kinds_that_nobody_uses_are_forgotten():
    """Features come from requests: endless ones take no endless memory."""
    habits = Habits()
    for number in range(5000):
        habits.learn(f"feature-{number}", "m", 1)
    assert len(habits.export()["kinds"]) <= 4096
