"""`guarded(policy)`: a Guard in memory for an application's own tests, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from capguard.backends.base import Backend, Plain
from capguard.default import default_is
from capguard.guard import Guard
from capguard.ledger.caps import ENFORCING, Leg, MeterState
from capguard.ledger.commands import Check, Command, Reserve
from capguard.ledger.outcomes import Denied, Outcome, Refused
from capguard.testing.clock import ManualClock

if TYPE_CHECKING:
    from capguard.policy.document import Cap, Policy


class GuardedGuard(Guard):
    """A Guard on `memory://` whose caps can be made to refuse, and that tells what was spent."""

    clock: ManualClock

    def __init__(self, policy: Policy | dict[str, Any] | str, clock: ManualClock | None = None):
        self.clock = clock or ManualClock()
        super().__init__("memory://", policy=policy, clock=self.clock)
        self._denying = _Denying(self._backend, self.clock)
        self._backend = self._denying

    def deny(self, cap: str) -> None:
        """From now on the cap with this id refuses every call that it applies to, as if it were spent.

        Raises ValueError for an id that no cap of the policy has, or one whose action never refuses.
        """
        actions = {each.id: each.action for each in _caps_of(self.policy)}
        if actions.get(cap) not in ENFORCING:
            allowed = ", ".join(name for name, action in actions.items() if action in ENFORCING) or "none"
            raise ValueError(f"deny({cap!r:.60}): no cap of this policy that refuses; allowed: {allowed}")
        self._denying.caps.add(cap)

    def allow_again(self, cap: str) -> None:
        """Undo `deny`."""
        self._denying.caps.discard(cap)

    def spent(self, user: str | None = None) -> Decimal:
        """Dollars that were settled, of one user or of all."""
        ends = [entry for entry in self.entries(user=user) if entry.kind in ("settle", "book", "expire", "release")]
        last = {entry.id: entry.cost for entry in ends}
        return sum(last.values(), Decimal(0))


class _Denying(Plain):
    """A backend whose chosen caps are always spent."""

    def __init__(self, backend: Backend, clock: ManualClock):
        self.caps: set[str] = set()
        self.url = backend.url
        self._backend = backend
        self._clock = clock

    def execute(self, command: Command) -> Outcome:
        return self._spent(command) or self._backend.execute(command)

    async def aexecute(self, command: Command) -> Outcome:
        return self._spent(command) or await self._backend.aexecute(command)

    def answer_within(self, seconds: float) -> None:
        self._backend.answer_within(seconds)

    def seen(self) -> Sequence[Any] | None:
        return self._backend.seen()

    def recall(self, seen: Sequence[Any]) -> None:
        self._backend.recall(seen)

    def weaknesses(self) -> Sequence[str]:
        return self._backend.weaknesses()

    def close(self) -> None:
        self._backend.close()

    def _spent(self, command: Command) -> Outcome | None:
        reserve = command.reserve if isinstance(command, Check) else command
        if not self.caps or not isinstance(reserve, Reserve):
            return None
        wanted = reserve.candidates[0]
        refused = tuple(
            Refused(leg, wanted.held.get(leg.unit, 0), _full(leg)) for leg in wanted.legs if leg.cap in self.caps
        )
        return Denied(refused, wanted.model, self._clock()) if refused else None


def _caps_of(policy: Policy) -> Iterator[Cap]:
    yield from policy.caps
    for plan in policy.plans.values():
        yield from plan.caps


def _full(leg: Leg) -> MeterState:
    return MeterState(settled=leg.limit, held=0, overrun=0)


@contextmanager
def guarded(policy: Policy | dict[str, Any] | str, *, clock: ManualClock | None = None) -> Iterator[GuardedGuard]:
    """Within the block, a Guard in memory is the process's Guard: `@capped` and the adapters use it.

        with guarded({"caps": [{"id": "monthly", "limit": 5}]}) as guard:
            guard.deny("monthly")
            with pytest.raises(CapExceeded):
                answer("hello")

    `guard.clock` is a `ManualClock`. Raises PolicyError for a policy that is refused.
    """
    guard = GuardedGuard(policy, clock)
    with default_is(guard), guard:
        yield guard
