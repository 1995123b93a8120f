"""What may still be let through while the backend is away: a share of each limit, and dollars in all.

The same decision as ever, in this process's memory, on meters that begin at zero when the backend goes away. Everything
that is let through counts here at once and for good: only contact with the backend makes room again.
"""

from __future__ import annotations

from capguard.backends.base import Clock
from capguard.backends.memory import MemoryBackend
from capguard.ledger.caps import Amounts, Leg
from capguard.ledger.commands import Candidate, Check, Offline, Reserve
from capguard.ledger.judge import refuses
from capguard.ledger.money import MAX_AMOUNT
from capguard.ledger.outcomes import Denied, Held, Mismatch, State
from capguard.ledger.windows import FOREVER_MS

_PPM = 1_000_000
_NOTHING = Leg("offline", 0, 0, 0, FOREVER_MS, "offline_allowance", "usd", "block", "{}")


class OfflineLedger:
    """What this process has let through since the backend answered last."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """The backend knows everything again: all room is free."""
        self._books = MemoryBackend(self._clock)
        self._more = 0

    def decide(self, command: Reserve, *, check: bool = False) -> tuple[Held | Denied | Mismatch, Reserve]:
        """Let a call through or not, and the call as it was let through: one model, as the policy has it."""
        assert command.offline is not None
        bounded = self._bounded(command, command.offline)
        outcome = self._books.execute(Check(bounded) if check else bounded)
        if not isinstance(outcome, Held):
            assert isinstance(outcome, Denied | Mismatch)
            return outcome, command
        chosen = command.candidates[outcome.chosen]
        made = outcome.record.made._replace(legs=chosen.legs, sources=(), on_expiry=command.on_expiry)
        state: State = "settled" if command.book else "held"
        record = outcome.record._replace(made=made, state=state, shares=outcome.record.shares[:-1])
        passed = tuple([miss for miss in outcome.passed if miss.leg.cap != _NOTHING.cap])
        call = command._replace(
            candidates=(chosen._replace(held=made.held, expected=made.expected, scale=None),),
            facts={**made.facts, "cause": "outage"},
            policy=None,
            offline=None,
        )
        return outcome._replace(record=record, passed=passed), call

    def owe(self, call: Reserve) -> None:
        """Count a call that a process which died had let through."""
        self._count(call.id, call.candidates[0], call.candidates[0].held)

    def exceeded(self, call: Reserve, amounts: Amounts) -> None:
        """Count what a call cost beyond what it was let through at."""
        held = call.candidates[0].held
        more = {unit: amount - held.get(unit, 0) for unit, amount in amounts.items() if amount > held.get(unit, 0)}
        if more:
            self._more += 1
            self._count(f"{call.id}+{self._more}", call.candidates[0], more)

    def _count(self, id: str, candidate: Candidate, amounts: Amounts) -> None:
        legs = tuple([leg._replace(limit=MAX_AMOUNT, action="warn") for leg in (*candidate.legs, _NOTHING)])
        counted = Candidate(None, amounts, amounts, legs, {})
        self._books.execute(_always(id, counted))

    def _bounded(self, command: Reserve, limits: Offline) -> Reserve:
        candidates = tuple([self._within(each, limits) for each in command.candidates])
        return command._replace(
            candidates=candidates,
            valid_from=0,
            valid_until=FOREVER_MS,
            profile=0,
            policy=None,
            book=True,
            waits=False,
            thresholds=(),
        )

    @staticmethod
    def _within(candidate: Candidate, limits: Offline) -> Candidate:
        legs = [
            leg._replace(limit=leg.limit * limits.share_ppm // _PPM) if refuses(leg) else leg for leg in candidate.legs
        ]
        allowance = _NOTHING._replace(limit=limits.allowance)
        return candidate._replace(legs=(*legs, allowance), sources=(), scale=None)


def _always(id: str, candidate: Candidate) -> Reserve:
    return Reserve(id, id, (candidate,), {}, 0, FOREVER_MS, 1, 0, FOREVER_MS, "charge_expected", {}, book=True)
