"""Guard: the object that users hold. Its verbs stand in the modules that it is made of; here it begins and ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from capguard import dropped, notices
from capguard.acceptance import accepted
from capguard.backends.base import Backend, Clock, run, system_clock
from capguard.backends.disabled import DisabledBackend, is_disabled
from capguard.backends.memory import MemoryBackend
from capguard.calls import Calls
from capguard.disabled import without_refusals
from capguard.errors import BackendUnavailable
from capguard.events import Observer, Observers
from capguard.health import Checking
from capguard.knowledge import Knowledge
from capguard.lastknown import LastKnown
from capguard.ledger.outcomes import Outcome
from capguard.ledger.waiting import WaitingLine
from capguard.looking import Looking
from capguard.plugins.manager import open_backend, open_prices, plugged_observers
from capguard.policy.load import load_policy
from capguard.pricing.tokens import warm_up
from capguard.publishing import PolicySource, policy_found
from capguard.resilience.contact import Change
from capguard.resilience.letters import Letter
from capguard.resilience.places import state_folder
from capguard.resilience.sheltered import Sheltered
from capguard.review import Review
from capguard.sharing import Sharing
from capguard.shelf import Shelf
from capguard.steering import Steering

if TYPE_CHECKING:
    from capguard.policy.document import Policy
    from capguard.pricing.sources import PriceSource


class Guard(Calls, Looking, Steering, Review, Checking):
    """A ledger and the policy that holds for it.

    `url` names the backend: `sqlite:///capguard.db`, `redis://localhost`, `memory://`; a `redis.Redis` serves too, its
    settings are cloned. `policy` is a path to TOML, YAML or JSON, a dict, or a `Policy`. `namespace` keeps products
    apart in one backend. `clock` gives milliseconds since the epoch; the default is the system's. One Guard serves
    many threads and event loops. With `CAPGUARD_DISABLED=1` every call passes, loudly.

    `prices` names a price list that is laid over the bundled one: `litellm` for the installed one's, a file, or what a
    plugin knows; it may change at any time. `warm` loads the vocabularies now rather than at the first calls.

    With `policy`, that is the truth for this process. Without it the backend holds the policy: `publish` changes it for
    everybody, `initial_policy` publishes the first. Overrides, grants and assigned plans always live in the backend.

    Raises PolicyError for a policy that is refused or nowhere to be found, ValueError for a URL that no backend serves.
    """

    def __init__(
        self,
        url: object,
        *,
        policy: PolicySource | None = None,
        initial_policy: PolicySource | None = None,
        namespace: str = "default",
        clock: Clock | None = None,
        prices: PriceSource | str | None = None,
        warm: bool = False,
    ):
        self._clock = clock or system_clock
        self._observers = Observers(plugged_observers())
        self._copy: LastKnown | None = None
        self._shelf = Shelf(open_prices(prices))
        own = None if policy is None else accepted(policy)
        if is_disabled():
            self._backend = DisabledBackend(self._clock)
            lenient = without_refusals(own or accepted(initial_policy or {}))
            self._knowledge = Knowledge(lenient, None if own is not None else 0, self._shelf)
        else:
            self._backend, self._copy = self._opened(url, namespace)
            shard_by = self._backend.shard_by
            own = None if own is None else accepted(own, shard_by)
            self._knowledge = self._found(initial_policy, shard_by) if own is None else self._knowing(own, None, {})
        sheltered = isinstance(self._backend, Sheltered)
        self._sharing = Sharing(self._backend, self._knowledge.habits) if sheltered else None
        self._line = WaitingLine()
        self._shelf.watch()
        if warm:
            warm_up()

    @classmethod
    def from_env(cls) -> Guard:
        """A Guard from CAPGUARD_URL (`sqlite:///capguard.db`), CAPGUARD_POLICY, _PRICES, two paths, and _NAMESPACE.

        Without CAPGUARD_POLICY the published policy of the backend holds.
        """
        url = os.environ.get("CAPGUARD_URL") or "sqlite:///capguard.db"
        namespace = os.environ.get("CAPGUARD_NAMESPACE") or "default"
        prices = os.environ.get("CAPGUARD_PRICES") or None
        return cls(url, policy=os.environ.get("CAPGUARD_POLICY") or None, namespace=namespace, prices=prices)

    def _opened(self, url: object, namespace: str) -> tuple[Backend, LastKnown | None]:
        """The backend, sheltered against its own absence, and this host's copy of what holds; memory is never away."""
        backend = open_backend(url, namespace=namespace, clock=self._clock)
        if isinstance(backend, MemoryBackend):
            return backend, None
        folder = state_folder(backend.url, namespace)
        copy = LastKnown(folder)
        told, delivered = self._tell_change, self._tell_delivered
        return Sheltered(backend, folder, self._clock, copy, told=told, delivered=delivered), copy

    def _found(self, initial: PolicySource | None, shard_by: str) -> Knowledge:
        """The policy of the backend, which may change at any time; while that is away, the one known last here."""
        try:
            published = run(policy_found(initial, shard_by), self._backend)
        except BackendUnavailable:
            known = None if self._copy is None else self._copy.policy()
            if known is None:
                raise
            published = known
        if self._copy is not None:
            self._copy.note_policy(published)
        return self._knowing(load_policy(dict(published.body)), published.revision, published.since)

    def _knowing(self, policy: Policy, revision: int | None, since: Mapping[str, int]) -> Knowledge:
        shard_by = self._backend.shard_by
        return Knowledge(policy, revision, self._shelf, self._copy, self._in_force, shard_by, since)

    def _in_force(self, policy: Policy) -> None:
        self._backend.answer_within(float(policy.failure.deadline))

    def _tell_change(self, change: Change, why: str) -> None:
        notices.tell(self._observers, notices.of_backend(change, why, self._clock()))

    def _tell_delivered(self, letter: Letter, outcome: Outcome) -> None:
        self._tell_booking(letter.command, outcome)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._backend.url!r})"

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._knowledge.planner.policy

    def on(self, event: str, observer: Observer) -> None:
        """Tell `observer` of every event of this name, `*` for all: `guard.on("denied", print)`.

        It runs after the fact, in the thread of the call. One that fails is logged and counted, never felt by the call.
        Raises ValueError for a name that no event has.
        """
        self._observers.on(event, observer)

    @property
    def observer_failures(self) -> int:
        """How often an observer of this Guard, or of a plugin, has failed since it was made. The log says which."""
        return self._observers.failures.total()

    # ending

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until what was kept while the backend was away is booked, for so many seconds. Whether it all is.

        While the backend answers, every verb books before it returns; only what the garbage collector found is booked a
        moment later, and waited for here.
        """
        dropped.flush()
        return self._backend.flush(timeout) if isinstance(self._backend, Sheltered) else True

    async def aflush(self, timeout: float = 10.0) -> bool:  # noqa: ASYNC109 - as flush has it
        """As `flush`."""
        return await asyncio.to_thread(self.flush, timeout)

    def close(self) -> None:
        """Book what was kept, for two seconds at most, and give back the backend's connections.

        What is left stays on disk for the next process of this host; holds stay in the ledger until their time is over.
        """
        dropped.flush()
        if self._sharing is not None:
            self._sharing.close()
        if self._copy is not None:
            self._copy.write()
        self._backend.close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Guard:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()
