"""A LiteLLM Router under caps: its own engine of retries and fallbacks runs attempts that are held one by one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from capguard.call import Call
from capguard.guard import Guard
from capguard.identity import Identity
from capguard.integrations.litellm import host, who
from capguard.integrations.litellm.asked import Asked
from capguard.integrations.litellm.covered import COVERED
from capguard.integrations.litellm.deployments import Deployment, Deployments
from capguard.integrations.litellm.functions import FUNCTIONS, Function
from capguard.integrations.litellm.loops import finished
from capguard.integrations.litellm.replies import arecord, record
from capguard.integrations.litellm.verbs import Verbs

log = logging.getLogger("capguard")

_ENGINE = ("async_function_with_fallbacks", "_update_kwargs_before_fallbacks")
_HAS_ENGINE = frozenset(("completion", "embedding", "image_generation"))
"""The sync functions that run retries and fallbacks inside a Router; the others pass their arguments on."""


class Refused(BaseException):
    """Carries a refusal past every `except Exception` of the Router: no retry, no fallback, no deployment cooled."""

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.error = error


class CappedRouter(Verbs):
    """The calls of a Router under caps: the same arguments and replies, `CapExceeded` before anything is sent.

    Every attempt is held at the model of the deployment that the Router picked for it, and booked as an entry of its
    own: a retry, a fallback. A downgrade goes to a deployment that serves the cheaper model; where the Router has
    none, the cap lets the call pass. A refusal ends the call. A stream that breaks before its first word is not moved
    to a fallback. The Router itself is `router`; what is called on it directly is not capped.
    """

    def __init__(self, guard: Guard, router: Any):
        self.router = router
        self._guard = guard
        host.require_inside("a Router")
        self._deployments = Deployments(router)
        host.require(router, (*_ENGINE, *(each for name in FUNCTIONS for each in _both(name))), "the Router")
        self._order = {name: host.parameters(getattr(router, name)) for name in FUNCTIONS}
        self._said_unserved: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        capped = ", ".join(FUNCTIONS)
        raise AttributeError(f"CappedRouter has no {name!r}; capped are {capped}, each also with an a; see .router")

    def _run(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], identity: Any) -> Any:
        return finished(self._engine(self._asked(name, args, kwargs, identity, sync=True)))

    async def _arun(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], identity: Any) -> Any:
        return await self._engine(self._asked(name, args, kwargs, identity, sync=False))

    async def _engine(self, asked: Mapping[str, Any]) -> Any:
        """The Router's own retries and fallbacks, around our attempts."""
        try:
            return await self.router.async_function_with_fallbacks(**asked)
        except Refused as refused:
            raise refused.error from None

    def _asked(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], identity: Any, *, sync: bool
    ) -> dict[str, Any]:
        """What the Router's engine is to run: our attempt, with the caller's arguments, as the Router prepares them."""
        given = dict(zip(self._order[name], args, strict=False)) | kwargs
        bucket = "litellm_metadata" if name == "responses" else "metadata"
        given[bucket] = dict(given.get(bucket) or {})
        self.router._update_kwargs_before_fallbacks(given.get("model"), given, bucket)
        attempt = partial(self._attempt, FUNCTIONS[name], who.said(identity, given), sync)
        return {**given, "original_function": attempt}

    async def _attempt(self, function: Function, identity: Identity, sync: bool, /, **kwargs: Any) -> Any:
        """One attempt of the engine: pick a deployment, hold, call it and nothing else, book."""
        picked = await self._deployments.pick(kwargs.pop("model"), kwargs)
        async with AsyncExitStack() as stack:
            try:
                asked, call, deployment = await self._held(stack, function, identity, picked, kwargs)
            except Exception as error:
                raise Refused(error) from error
            arguments = {**asked.arguments(call), **_alone(function, kwargs), "model": deployment.id}
            COVERED.put(arguments["litellm_call_id"], None)
            if sync:  # in a loop that was made for this call: nobody else waits in it
                return record(asked, call, self._sync(function, deployment)(**arguments))
            reply = await getattr(self.router, f"a{function.name}")(**arguments)
            return arecord(asked, call, reply)

    def _sync(self, function: Function, deployment: Deployment) -> Callable[..., Any]:
        """The Router's sync function; its `text_completion` names the group to the provider: there it is LiteLLM's."""
        if function.name != "text_completion":
            return getattr(self.router, function.name)  # type: ignore[no-any-return]
        return lambda **arguments: host.litellm().text_completion(**{**arguments, **deployment.params})

    async def _held(
        self, stack: AsyncExitStack, function: Function, identity: Identity, picked: Deployment, kwargs: dict[str, Any]
    ) -> tuple[Asked, Call, Deployment]:
        """Reserve at the model of the deployment that was picked, or of a cheaper one that a cap leads to."""
        asked = Asked.of(function, kwargs, identity, model=picked.model)
        call = await stack.enter_async_context(asked.call(self._guard))
        if call.model == picked.model or call.model is None:
            return asked, call, picked
        cheaper = await self._deployments.serving(call.model, kwargs)
        if cheaper is not None:
            return asked, call, cheaper
        self._say_unserved(call.model)
        call.release()
        await stack.aclose()
        asked = Asked.of(function, kwargs, identity, model=picked.model, rewritable=False)
        return asked, await stack.enter_async_context(asked.call(self._guard)), picked

    def _say_unserved(self, model: str) -> None:
        if model not in self._said_unserved:
            self._said_unserved.add(model)
            log.warning("capguard: no deployment of the Router serves %s; a downgrade to it lets calls pass", model)


def _both(name: str) -> tuple[str, str]:
    return name, f"a{name}"


def _alone(function: Function, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What keeps the inner call to one attempt: the engine around it retries and falls back."""
    alone: dict[str, Any] = {"num_retries": 0}
    if function.name in _HAS_ENGINE:
        alone["disable_fallbacks"] = True
    for bucket in ("metadata", "litellm_metadata"):
        if isinstance(kwargs.get(bucket), Mapping):
            alone[bucket] = dict(kwargs[bucket])  # the inner call marks it as its own
    return alone
