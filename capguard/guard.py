"""Guard: the object that users hold. Its verbs stand in the modules that it is made of; here it begins and ends."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from capguard import dropped
from capguard.acceptance import accepted
from capguard.backends.base import Clock, run, system_clock
from capguard.backends.disabled import DisabledBackend, is_disabled
from capguard.calls import Calls
from capguard.disabled import without_refusals
from capguard.events import Observer, Observers
from capguard.knowledge import Knowledge
from capguard.ledger.waiting import WaitingLine
from capguard.looking import Looking
from capguard.plugins.manager import open_backend, open_prices, plugged_observers
from capguard.policy.load import load_policy
from capguard.pricing.tokens import warm_up
from capguard.publishing import PolicySource, policy_found
from capguard.review import Review
from capguard.shelf import Shelf
from capguard.steering import Steering

if TYPE_CHECKING:
    from capguard.policy.document import Policy
    from capguard.pricing.sources import PriceSource


class Guard(Calls, Looking, Steering, Review):
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
        self._shelf = Shelf(open_prices(prices))
        own = None if policy is None else accepted(policy)
        if is_disabled():
            self._backend = DisabledBackend(self._clock)
            lenient = without_refusals(own or accepted(initial_policy or {}))
            self._knowledge = Knowledge(lenient, None if own is not None else 0, self._shelf)
        else:
            self._backend = open_backend(url, namespace=namespace, clock=self._clock)
            self._knowledge = self._found(initial_policy) if own is None else Knowledge(own, None, self._shelf)
        self._line = WaitingLine()
        self._observers = Observers(plugged_observers())
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

    def _found(self, initial: PolicySource | None) -> Knowledge:
        """The policy of the backend, which may change at any time."""
        published = run(policy_found(initial), self._backend)
        return Knowledge(load_policy(dict(published.body)), published.revision, self._shelf)

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

    def flush(self) -> None:
        """Wait until everything is booked: what the garbage collector found, a moment later than the rest."""
        dropped.flush()

    async def aflush(self) -> None:
        """As `flush`."""
        await asyncio.to_thread(dropped.flush)

    def close(self) -> None:
        """Give back the backend's connections. Holds stay in the ledger until their time is over."""
        dropped.flush()
        self._backend.close()

    async def aclose(self) -> None:
        await self.aflush()
        self._backend.close()

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Guard:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()
