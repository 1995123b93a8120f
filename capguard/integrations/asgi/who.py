"""Who makes a request: what `identify` says, the authenticated user, the state, the session, a trusted proxy.

Each field comes from the first of these that knows it. Nothing else that a client sends is believed.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from capguard.identity import NOBODY, Identity, identity_of
from capguard.integrations.asgi.protocol import Scope
from capguard.integrations.asgi.proxies import TrustedHeaders

Said = Identity | Mapping[str, Any] | None
Identify = Callable[[Scope], Said | Awaitable[Said]]
PlanName = str | None
Plans = Mapping[str, str] | Callable[[str], PlanName | Awaitable[PlanName]]

ANONYMOUS = Identity(user="anonymous")
"""Whoever is not known: all of them share one meter, on the default plan."""

_NAMES = {"user": ("user", "user_id"), "plan": ("plan",), "org": ("org", "org_id"), "team": ("team", "team_id")}
_OF_USER = ("identity", "id", "pk", "username", "display_name")


class Who:
    """How the caller of a request is found.

    `plans` maps a permission that Starlette's AuthenticationMiddleware gave to a plan, or is called with the user's
    name. It is asked where nothing else names a plan.
    """

    def __init__(self, identify: Identify | None, plans: Plans | None, headers: TrustedHeaders):
        self._identify = identify
        self._plans = plans
        self._headers = headers

    async def identity(self, scope: Scope) -> Identity:
        """The caller, `anonymous` where nothing names a user. Raises ValueError for what can name nobody."""
        found = await self._said(scope)
        for read in (_authenticated, _in_state, _in_session, self._headers.identity):
            found = found.over(read(scope))
        if found.user is None:
            return found.over(ANONYMOUS)
        if found.plan is None and self._plans is not None:
            found = found.over(Identity(plan=await self._plan(found.user, scope)))
        return found

    async def _said(self, scope: Scope) -> Identity:
        if self._identify is None:
            return NOBODY
        said = self._identify(scope)
        return identity_of(await said if inspect.isawaitable(said) else said)

    async def _plan(self, user: str, scope: Scope) -> str | None:
        if isinstance(self._plans, Mapping):
            scopes = getattr(scope.get("auth"), "scopes", ())
            return next((plan for name, plan in self._plans.items() if name in scopes), None)
        assert self._plans is not None
        plan = self._plans(user)
        return await plan if inspect.isawaitable(plan) else plan


def _authenticated(scope: Scope) -> Identity:
    """`scope["user"]`, as Starlette's AuthenticationMiddleware puts it there."""
    user = scope.get("user")
    if user is None or not getattr(user, "is_authenticated", True):
        return NOBODY
    plan = getattr(user, "plan", None)
    return Identity(user=_name(user), plan=plan if isinstance(plan, str) else None)


def _in_state(scope: Scope) -> Identity:
    """`request.state.user` and its like, as a middleware of the application put them there."""
    state = scope.get("state")
    return _named(state if isinstance(state, Mapping) else getattr(state, "__dict__", {}).get("_state", {}))


def _in_session(scope: Scope) -> Identity:
    """The session, which the server has signed or keeps."""
    session = scope.get("session")
    return _named(session) if isinstance(session, Mapping) else NOBODY


def _named(values: Mapping[str, Any]) -> Identity:
    named: dict[str, Any] = {}
    for field, keys in _NAMES.items():
        found = next((values[key] for key in keys if values.get(key) is not None), None)
        if found is not None:
            named[field] = _name(found)
    return Identity(**named) if named else NOBODY


def _name(value: Any) -> str | None:
    """A user as text: a text, a number, or what an object of the application calls itself."""
    if isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    for attribute in _OF_USER:
        try:
            found = value.get(attribute) if isinstance(value, Mapping) else getattr(value, attribute, None)
        except NotImplementedError:  # Starlette's SimpleUser has no identity
            continue
        if isinstance(found, str) or type(found) is int:
            return str(found)
    return None
