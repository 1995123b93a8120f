"""Conversations with a backend, for sync and async alike: generators that yield commands and receive outcomes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Literal, NamedTuple, TypeVar

from capguard.ledger.commands import Check, Command, Reserve
from capguard.ledger.outcomes import Denied, Held, Outcome, Stale
from capguard.ledger.waiting import WaitingLine, pause_ms

T = TypeVar("T")

REBUILDS = 3
"""How often a command that was built from what has changed since is built again: time, profile and policy once each."""


class Pause(NamedTuple):
    """Not for a backend: whoever drives the flow waits so long."""

    ms: int


Flow = Generator[Command | Pause, Outcome, T]
Build = Callable[[int | None], Reserve]
Learn = Callable[[Stale], None]

Aim = Literal["look", "wait", "last"]
"""What one attempt is for: to see whether there is room, to get it or wait on, to get it or be refused for good."""

Attempt = Callable[[Aim], Flow[Outcome]]


def reserving(build: Build, learn: Learn, *, check_only: bool = False) -> Flow[Outcome]:
    """Reserve, building the command again with what the backend sent back when it answers that ours is stale."""
    now_ms: int | None = None
    for _ in range(1 + REBUILDS):
        command = build(now_ms)
        outcome = yield Check(command) if check_only else command
        if not isinstance(outcome, Stale):
            return outcome
        learn(outcome)
        now_ms = outcome.now_ms
    return outcome


def waiting(
    attempt: Attempt, line: WaitingLine, throttles: Callable[[], Sequence[str]], on_wait: Callable[[Denied], None]
) -> Flow[Outcome]:
    """Reserve; where only throttle caps refuse, wait for room, first come first served in this process.

    `throttles` gives the meters of the call's throttle caps: where somebody waits for one of them already, this call
    goes behind. Returns the refusal at once where room cannot come within the caps' `max_wait`.
    """
    ahead = line.busy(throttles()) if line else ()
    outcome = yield from attempt("look" if ahead else "wait")
    if isinstance(outcome, Denied) and outcome.waits:
        return (yield from _in_line(attempt, line, ahead or outcome.meters, outcome, on_wait))
    if not ahead:
        return outcome
    if isinstance(outcome, Held):
        return (yield from _in_line(attempt, line, ahead, outcome, on_wait))
    return (yield from attempt("last"))


def _in_line(
    attempt: Attempt, line: WaitingLine, meters: Sequence[str], seen: Denied | Held, on_wait: Callable[[Denied], None]
) -> Flow[Outcome]:
    """Wait for one's turn and for room. Whoever has waited as long as its caps allow tries once more, for good."""
    allowed_ms, waited_ms, told = _max_wait_ms(seen, meters), 0, False
    due_ms = _frees_in_ms(seen)
    with line.place(meters) as place:
        while waited_ms < allowed_ms and due_ms <= allowed_ms:
            if isinstance(seen, Denied) and not told:
                on_wait(seen)
                told = True
            pause = pause_ms(max(0, due_ms - waited_ms), allowed_ms - waited_ms, first=place.is_first())
            yield Pause(pause)
            waited_ms += pause
            if place.is_first():
                outcome = yield from attempt("wait")
                if not isinstance(outcome, Denied) or not outcome.waits:
                    return outcome
                seen, due_ms = outcome, waited_ms + _frees_in_ms(outcome)
    return (yield from attempt("last"))


def _frees_in_ms(seen: Denied | Held) -> int:
    """How long it takes until there is room, as far as it is known."""
    return max(0, seen.frees_ms - seen.now_ms) if isinstance(seen, Denied) else 0


def _max_wait_ms(seen: Denied | Held, meters: Sequence[str]) -> int:
    if isinstance(seen, Denied):
        return seen.max_wait_ms
    return min(leg.max_wait_ms for leg in seen.record.made.legs if leg.meter in meters)
