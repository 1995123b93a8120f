"""Others act between two steps of one command."""

from __future__ import annotations

from collections.abc import Callable

from capguard.ledger.commands import (
    Command,
    Look,
    PolicyInForce,
    Profile,
    Publish,
    Verify,
)
from capguard.ledger.outcomes import Outcome
from capguard.testing.clock import ManualClock
from capguard.testing.conformance.builders import cap, reserve
from capguard.testing.conformance.paying import backfill, give, publish
from capguard.testing.conformance.told import told
from tests.backends.redis_games.game import game
from tests.backends.redis_place import Place, say


class Meddling(ManualClock):
    """A clock that lets somebody else act when a step asks it for the time: `at` says at which of the next steps."""

    def __init__(self, act: Callable[[], object]):
        super().__init__()
        self._act = act
        self._left = 0
        self.done = False

    def at(self, step: int) -> None:
        self._left = step

    def __call__(self) -> int:
        if self._left:
            self._left -= 1
            if not self._left:
                self._act()
                self.done = True
        return super().__call__()


def _between(place: Place, step: int, theirs: Command, ours: Command) -> Outcome:
    other = place.open(ManualClock())
    meddling = Meddling(lambda: other.execute(theirs))
    backend = place.open(meddling)
    backend.execute(Verify())
    meddling.at(step)
    outcome = backend.execute(ours)
    assert meddling.done
    return outcome


@game
def two_steer_one_user(place: Place) -> None:
    """Between reading and writing a profile another process writes it: both changes are there at the end."""
    _between(place, 2, give("theirs", 5), give("ours", 6))
    say(place.open(ManualClock()), (Profile("u1"), "profile 2, grants theirs ours"))


@game
def two_publish(place: Place) -> None:
    """Between reading and writing the policy another process writes it: ours is revision 2."""
    _between(place, 2, Publish({"default_plan": "theirs"}, None), Publish({"default_plan": "ours"}, None))
    backend = place.open(ManualClock())
    say(backend, (PolicyInForce(), "policy 2 ours"), (PolicyInForce(1), "policy 1 theirs"))


@game
def an_entry_overtakes_a_fill(place: Place) -> None:
    """Between reading the journal and filling a new cap's meters a call is made: the fill is stale."""
    fill = publish("ours", fill=backfill({cap("new"): 0}, last=0))
    assert told(_between(place, 2, reserve("theirs", 1, cap("old")), fill)) == "stale at 0"
    say(place.open(ManualClock()), (PolicyInForce(), "nothing"), (Look((cap("new"),)), "meters 0/0/0"))
