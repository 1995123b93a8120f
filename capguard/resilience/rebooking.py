"""Booking a call that was made while the backend was away, or that it has lost: once, whatever it remembers."""

from __future__ import annotations

from capguard.ledger.commands import Reserve, Settle
from capguard.ledger.flows import REBUILDS, Flow
from capguard.ledger.outcomes import Outcome, Stale, Unknown
from capguard.ledger.windows import FOREVER_MS
from capguard.resilience.letters import Letter


def delivering(letter: Letter, now_ms: int) -> Flow[Outcome]:
    """Tell the backend what a letter says. Every step may be repeated: each counts once under its id.

    A call that was let through offline may be held there all the same, its reserve having landed after the time-out:
    then that hold is settled. One that the backend should know and does not was lost there, unless it is so old that
    ids as old are forgotten.
    """
    command, call = letter
    if call is None or not isinstance(command, Settle):
        return (yield command)
    if call.facts["cause"] == "lost":
        outcome = yield command
        if not isinstance(outcome, Unknown) or outcome.entry or now_ms >= call.facts["made_ms"] + call.retention_ms:
            return outcome
    yield from _holding_nothing(call, command)
    return (yield command._replace(facts={"cause": call.facts["cause"], **command.facts}))


def _holding_nothing(call: Reserve, settle: Settle) -> Flow[Outcome]:
    """Make the call known. It holds nothing, so that no cap refuses it: what it cost is booked by its settle."""
    made = call.candidates[0]
    candidate = made._replace(held=dict.fromkeys(settle.amounts, 0), expected=settle.amounts, scale=None)
    command = call._replace(candidates=(candidate,), valid_from=0, valid_until=FOREVER_MS, policy=None, book=False)
    for _ in range(REBUILDS):
        outcome = yield command
        if not isinstance(outcome, Stale) or outcome.profile is None:
            break
        command = command._replace(profile=outcome.profile.revision)
    return outcome
