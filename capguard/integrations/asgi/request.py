"""What one request's calls cost, for the application: `request.state.capguard`."""

from __future__ import annotations

from collections.abc import MutableMapping
from decimal import Decimal

from capguard.errors import CapguardError
from capguard.identity import Box, Identity
from capguard.integrations.asgi.protocol import Scope
from capguard.watch import Watch


class RequestState:
    """Who makes a request, and what its calls to models have cost so far. Read it at any time.

    `cost` is in dollars, of what is booked: a stream that still passes is in it when it has ended.
    """

    def __init__(self, box: Box, watch: Watch):
        self._box = box
        self._watch = watch

    @property
    def identity(self) -> Identity:
        """The identity as it is known by now."""
        return self._box.identity

    @property
    def cost(self) -> Decimal:
        return self._watch.cost

    @property
    def calls(self) -> int:
        """How many calls were booked."""
        return self._watch.calls

    @property
    def refused(self) -> CapguardError | None:
        """The `CapExceeded` or `BackendUnavailable` of the last call, None where it was let through."""
        return self._watch.refused

    def put_into(self, scope: Scope) -> None:
        """Where Starlette's `request.state` looks."""
        state = scope.setdefault("state", {})
        if isinstance(state, MutableMapping):
            state["capguard"] = self
        else:
            state.capguard = self
