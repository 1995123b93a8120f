"""LiteLLM's functions with caps around them: `CappedLiteLLM(guard).completion(...)` for `litellm.completion(...)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from capguard.default import default_guard
from capguard.guard import Guard
from capguard.identity import Identity
from capguard.integrations.litellm import host, who
from capguard.integrations.litellm.asked import Asked
from capguard.integrations.litellm.attempt import aattempt, attempt
from capguard.integrations.litellm.fallbacks import Models
from capguard.integrations.litellm.functions import FUNCTIONS, Function
from capguard.integrations.litellm.verbs import Verbs

if TYPE_CHECKING:
    from capguard.integrations.litellm.router import CappedRouter


class CappedLiteLLM(Verbs):
    """LiteLLM's functions under caps: the same arguments, the same replies, `CapExceeded` before anything is sent.

    Each takes one argument more, `identity`, an `Identity` or a mapping of its fields. The user comes from there, else
    from `user=`, else from `metadata={"capguard": {...}}`, else from `identify`. A downgrade puts the cheaper model in
    the place of `model`. Streams are metered as they pass and booked when they end, break off or are dropped. Every
    model of `fallbacks=` is held and booked by itself; retries by `num_retries` are within one booking.

    Without `guard`, the process's own holds (`configure`). Raises MissingExtra where LiteLLM is not installed.
    """

    def __init__(self, guard: Guard | None = None):
        self._guard = guard
        library = host.litellm()
        host.require(library, [each for name in FUNCTIONS for each in (name, f"a{name}")], "the package")
        self._order = {name: host.parameters(getattr(library, name)) for name in FUNCTIONS}

    @property
    def guard(self) -> Guard:
        return self._guard or default_guard()

    def router(self, router: Any) -> CappedRouter:
        """A `litellm.Router` under the same caps: every attempt, retry and fallback is held and booked by itself."""
        from capguard.integrations.litellm.router import CappedRouter

        return CappedRouter(self.guard, router)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"CappedLiteLLM has no {name!r}; capped are {', '.join(FUNCTIONS)}, each also with an a")

    def _run(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], identity: Any) -> Any:
        function: Callable[..., Any] = getattr(host.litellm(), name)
        models = Models(self._bound(name, args, kwargs))
        for given in models:
            asked = self._asked(FUNCTIONS[name], given, identity)
            with models.trying():
                return attempt(self.guard, asked, function)
        raise models.failure

    async def _arun(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], identity: Any) -> Any:
        function: Callable[..., Any] = getattr(host.litellm(), f"a{name}")
        models = Models(self._bound(name, args, kwargs))
        for given in models:
            asked = self._asked(FUNCTIONS[name], given, identity)
            with models.trying():
                return await aattempt(self.guard, asked, function)
        raise models.failure

    def _bound(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name. Raises TypeError where one is given twice or there are too many."""
        order = self._order[name]
        if len(args) > len(order):
            raise TypeError(f"{name}() takes at most {len(order)} positional arguments, {len(args)} were given")
        given = dict(zip(order, args, strict=False))
        if twice := given.keys() & kwargs.keys():
            raise TypeError(f"{name}() got {', '.join(sorted(twice))} twice")
        return given | kwargs

    def _asked(self, function: Function, kwargs: dict[str, Any], identity: Identity | None) -> Asked:
        base = kwargs.get("base_model")  # an Azure deployment may bear any name: its price is that of its base model
        return Asked.of(function, kwargs, who.said(identity, kwargs), model=base, rewritable=base is None)
