"""The breaker: when a backend is left alone, and when it is asked again."""

from __future__ import annotations

import threading

import pytest

from capguard.resilience.breaker import FIRST_WAIT_S, IN_A_ROW, LONGEST_WAIT_S, WINDOW_S, Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def breaker(clock: Clock, chance: float = 0.5) -> Breaker:
    return Breaker(clock, lambda: chance)


def opened(clock: Clock, chance: float = 0.5) -> Breaker:
    made = breaker(clock, chance)
    for _ in range(IN_A_ROW):
        assert made.lets()
        made.failed()
    return made


def test_it_opens_after_five_failures_in_a_row() -> None:
    clock = Clock()
    made = breaker(clock)
    assert [made.failed() for _ in range(IN_A_ROW)] == [False] * (IN_A_ROW - 1) + [True]
    assert (made.state, made.lets()) == ("open", False)


def test_an_answer_in_between_begins_the_row_anew() -> None:
    made = breaker(Clock())
    for _ in range(3):
        for _ in range(IN_A_ROW - 1):
            made.failed()
        for _ in range(IN_A_ROW):
            made.answered()
    assert made.state == "closed"


def test_it_opens_where_more_than_half_fail_within_ten_seconds() -> None:
    """Every other step fails, and then some: no five in a row."""
    made = breaker(Clock())
    said = []
    for _ in range(IN_A_ROW):
        said += [made.failed(), made.failed()]
        made.answered()
    assert any(said)


def test_failures_of_long_ago_do_not_count() -> None:
    clock = Clock()
    made = breaker(clock)
    for _ in range(20):
        made.failed()
        made.failed()
        made.answered()
        clock.now += WINDOW_S + 1
    assert made.state == "closed"


@pytest.mark.parametrize(("chance", "wait"), [(0.0, 0.5), (0.5, 1.0), (0.999, 1.499)])
def test_the_wait_is_jittered(chance: float, wait: float) -> None:
    """Processes that lost a backend together do not come back together."""
    clock = Clock()
    made = opened(clock, chance)
    clock.now += FIRST_WAIT_S * wait - 0.01
    assert not made.lets()
    clock.now += 0.02
    assert made.lets()


def test_one_probe_at_a_time() -> None:
    """However many threads ask."""
    clock = Clock()
    made = opened(clock)
    clock.now += 100
    said: list[bool] = []
    threads = [threading.Thread(target=lambda: said.append(made.lets())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said.count(True) == 1
    assert made.state == "half-open"


def test_a_probe_that_is_answered_closes_it() -> None:
    clock = Clock()
    made = opened(clock)
    clock.now += 100
    assert made.lets()
    assert (made.answered(), made.answered()) == (True, False)
    assert (made.state, made.lets(), made.lets()) == ("closed", True, True)


def test_a_probe_that_is_given_up_makes_way_for_another() -> None:
    clock = Clock()
    made = opened(clock)
    clock.now += 100
    assert made.lets()
    made.given_up()
    assert made.lets()


def test_waits_double_up_to_half_a_minute() -> None:
    clock = Clock()
    made = opened(clock)
    waits = []
    for _ in range(8):
        began = clock.now
        while not made.lets():
            clock.now += 0.25
        waits.append(clock.now - began)
        made.failed()
    assert waits == [1, 2, 4, 8, 16, LONGEST_WAIT_S, LONGEST_WAIT_S, LONGEST_WAIT_S]


def test_failures_of_steps_that_were_under_way_do_not_prolong_it() -> None:
    clock = Clock()
    made = opened(clock)
    for _ in range(50):
        made.failed()
    clock.now += FIRST_WAIT_S + 0.01
    assert made.lets()
