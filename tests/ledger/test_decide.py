"""What the entries say (P12): nothing is booked by a rule that its entry does not tell, and refusals are counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from capguard.backends.memory import MemoryBackend
from capguard.ledger.caps import MeterState
from capguard.ledger.commands import Command, Journal
from capguard.ledger.outcomes import Denied, Lines
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import cap, extend, model, release, reserve, reserve_one_of, settle

TEN = cap("ten", 10)
EXPIRED = {"flags": ["uncertain"], "cause": "expired"}


def _last_entry(commands: Sequence[Command | float]) -> tuple[str, Any]:
    """Kind and body of the last entry. A number waits so many seconds."""
    clock = ManualClock()
    backend = MemoryBackend(clock)
    for command in commands:
        if isinstance(command, (int, float)):
            clock.advance(seconds=command)
        else:
            backend.execute(command)
    outcome = backend.execute(Journal())
    assert isinstance(outcome, Lines)
    return outcome.lines[-1].kind, outcome.lines[-1].body


FACTS: list[tuple[list[Command | float], str, dict[str, Any]]] = [
    ([reserve("r", 5, TEN)], "reserve", {"how": "given"}),
    ([reserve("r", 5, TEN, book=True)], "book", {"how": "given"}),
    ([reserve("r", 5, TEN), settle("r", 4)], "settle", {"how": "given"}),
    ([reserve("r", 5, TEN), release("r"), settle("r", 4)], "settle", {"how": "given", "late": True}),
    ([reserve("r", 5, TEN), 70, settle("r", 4)], "settle", {"how": "given", "late": True}),
    ([reserve("r", 5, TEN), 70, reserve("none", 99, TEN)], "expire", EXPIRED),
    ([reserve("r", 5, TEN, on_expiry="release"), 70, reserve("none", 99, TEN)], "expire", {"cause": "expired"}),
    ([reserve("r", 5, TEN), release("r")], "release", {}),
    (
        [reserve("r", 5, cap("w1", 1, "warn"), cap("d", 1, "dry_run"), TEN, cap("w2", 2, "warn"))],
        "reserve",
        {"how": "given", "warn": ["w1", "w2"], "dry_run": ["d"]},
    ),
    (
        [reserve_one_of("r", model("big", 5, cap("d", 1, "downgrade", step=1)), model("small", 1, TEN))],
        "reserve",
        {"how": "given", "downgrade": ["d"]},
    ),
]


@pytest.mark.parametrize(("commands", "kind", "facts"), FACTS)
def test_an_entry_tells_why(commands: list[Command | float], kind: str, facts: dict[str, Any]) -> None:
    found, body = _last_entry(commands)
    assert (found, body["facts"]) == (kind, facts)


def test_a_reserve_tells_what_was_held_for_whom_at_which_rates() -> None:
    kind, body = _last_entry([reserve("r", {"usd": 5, "tokens": 9}, TEN, expected=3, user="u7")])
    assert (kind, body["model"], body["rates"]) == ("reserve", "big", {"model": "big"})
    assert (body["held"], body["expected"]) == ({"usd": 5, "tokens": 9}, {"usd": 3})
    assert (body["identity"], body["legs"]) == ({"user": "u7"}, (TEN,))


def test_a_settle_tells_what_it_moved_and_what_went_over() -> None:
    kind, body = _last_entry([reserve("r", 5, TEN), extend("r", amount=6), settle("r", {"usd": 12, "tokens": 7})])
    assert (kind, body["amounts"], body["overrun"]) == ("settle", {"usd": 12, "tokens": 7}, {"usd": 2})
    assert [tuple(move) for move in body["moves"]] == [(TEN.meter, TEN.period, 12, -6, 2)]


def test_refusals_are_counted_per_cap_identity_and_minute() -> None:
    """A refusal moves no meter and makes no entry; it is counted for the report. Asking is not."""
    clock = ManualClock()
    backend = MemoryBackend(clock)
    theirs = cap("ten", 10, who="u2")
    for leg in (TEN, TEN, theirs):
        backend.execute(reserve("r", 11, leg, cap("roomy")))
    clock.advance(seconds=59.999)
    backend.execute(reserve("r", 11, TEN))
    clock.advance(seconds=0.001)
    backend.execute(reserve("r", 11, TEN))
    first = TEN.period + 12 * 3600 * 1000
    assert backend._books.denials == {(TEN.meter, first): 3, (theirs.meter, first): 1, (TEN.meter, first + 60_000): 1}


def test_a_refused_raise_shows_the_meter_as_others_left_it() -> None:
    """Its own hold is part of the amount that does not fit, and is not counted twice."""
    backend = MemoryBackend(ManualClock())
    for command in (reserve("spent", 1, TEN, book=True), reserve("theirs", 2, TEN), reserve("r", 5, TEN)):
        backend.execute(command)
    outcome = backend.execute(extend("r", amount=8))
    assert isinstance(outcome, Denied)
    assert [(miss.amount, miss.meter) for miss in outcome.refused] == [(8, MeterState(1, 2, 0))]
