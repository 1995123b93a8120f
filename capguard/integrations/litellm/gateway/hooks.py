"""The proxy's hooks: hold before the Router, for every attempt again inside it, book when the client has its answer."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from capguard.errors import BackendUnavailable, CapExceeded, CapguardError
from capguard.guard import Guard
from capguard.identity import NOBODY, Identity
from capguard.integrations.litellm import host
from capguard.integrations.litellm.asked import Asked
from capguard.integrations.litellm.attempts import Attempt, record_of
from capguard.integrations.litellm.callback import CapguardCallback
from capguard.integrations.litellm.deployments import Deployments
from capguard.integrations.litellm.functions import Function, function_of
from capguard.integrations.litellm.gateway import answers, caller
from capguard.integrations.litellm.gateway.kept import keep_headers
from capguard.integrations.litellm.gateway.requests import Requests, notes
from capguard.integrations.litellm.gateway.settings import Settings
from capguard.integrations.litellm.streams import is_only_usage

log = logging.getLogger("capguard")

_DOWNGRADED = "capguard_downgraded"
_HIDES_USAGE = "capguard_hides_usage"
_STRIPS_USAGE = "_litellm_strip_stream_usage"
"""Of LiteLLM, from 1.109 on: it asks for the usage itself and takes it out of text streams before a hook sees it."""
_HOOKS = (
    "async_pre_call_hook",
    "async_post_call_failure_hook",
    "async_post_call_streaming_iterator_hook",
    "async_post_call_response_headers_hook",
)


class ProxyCaps(CapguardCallback):
    """`litellm_settings: callbacks: capguard.integrations.litellm.proxy`: caps for everybody behind a LiteLLM proxy.

    The user, the team, the key and the plan are those that the proxy authenticated. A refusal is a 429 of type
    `budget_cap_exceeded`. Retries and fallbacks of the Router are held and booked one by one. Raises RuntimeError where
    this LiteLLM lacks one of the hooks that it hangs on.
    """

    def __init__(self, guard: Guard, settings: Settings | None = None):
        super().__init__(guard)
        host.require(CapguardCallback, _HOOKS, "CustomLogger")
        self._trust = (settings or Settings()).trust
        self._requests = Requests()
        self._keeps_headers: bool | None = None

    async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: Any, call_type: str) -> Any:
        """Before the Router: hold the call of this key's owner, or answer for the proxy."""
        function = function_of(call_type)
        if function is None:
            self._once.warn(f"capguard: the proxy's {call_type} is not capped")
            return data
        identity = caller.of(user_api_key_dict, data, self._trust)
        self._requests.begin(notes(data), identity)
        try:
            data.update(await self._reserve(function, data, identity))
        except (CapguardError, ValueError) as error:
            self._keep_headers()
            raise answers.refusal(error) from error
        return data

    async def async_post_call_streaming_iterator_hook(
        self,
        user_api_key_dict: Any,
        response: Any,
        request_data: dict[str, Any],
    ) -> AsyncGenerator[Any, None]:
        """A stream on its way to the client, booked when it ends, breaks off or the client leaves."""
        attempt = self._attempts.take(request_data)
        reader = attempt.call.read_along() if attempt is not None else None
        hides_usage = notes(request_data).get(_HIDES_USAGE) is True
        failed: BaseException | None = None
        whole = False
        try:
            async for chunk in response:
                if attempt is not None and reader is not None:
                    reader.feed(chunk)
                    await attempt.call.apassed()
                if not (hides_usage and is_only_usage(chunk)):
                    yield chunk
            whole = True
        except BaseException as error:
            failed = error
            raise
        finally:
            if attempt is not None:
                await attempt.call.afinish_stream(failed, whole=whole)

    async def async_post_call_failure_hook(
        self,
        request_data: Any,
        original_exception: Any,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> Any:
        """At the end of a request that failed: nothing of it stays held."""
        if (attempt := self._attempts.take(request_data)) is not None:
            await attempt.call.afinish(original_exception)
        return answers.as_http(original_exception) if isinstance(original_exception, CapExceeded) else None

    async def async_post_call_response_headers_hook(
        self,
        data: Any,
        user_api_key_dict: Any,
        response: Any,
        request_headers: Any = None,
        litellm_call_info: Any = None,
    ) -> dict[str, str]:
        """What is left, and the model that served where it is another than the one asked for."""
        headers = {}
        if downgraded := notes(data).get(_DOWNGRADED):
            headers[answers.DOWNGRADED] = downgraded
        try:
            identity = caller.of(user_api_key_dict, data, self._trust)
            headers |= answers.remaining(await self.guard.astatus(identity=identity))
        except (BackendUnavailable, ValueError) as error:
            log.warning("capguard: the reply says nothing of what remains: %s", error)
        return headers

    def identity(self, kwargs: Mapping[str, Any]) -> Identity:
        """Who was authenticated: a request's own words count for nothing."""
        return self._requests.caller(kwargs) or NOBODY

    def _is_covered(self, kwargs: Mapping[str, Any]) -> bool:
        """No wrapper works in a proxy, and a client may choose a call's id. Calls of the proxy's own are nobody's."""
        if self._requests.caller(kwargs) is not None:
            return False
        self._once.warn("capguard: a call that no client of the proxy caused is not capped")
        return True

    def _is_rewritable(self, kwargs: Mapping[str, Any]) -> bool:
        """The deployment is picked already: a downgrade went to another group before."""
        return False

    async def _reserve(self, function: Function, data: dict[str, Any], identity: Identity) -> dict[str, Any]:
        """Hold at the model behind the group that is asked for; what the decision changes in the request."""
        deployments = _deployments()
        behind = None if deployments is None else deployments.first(data.get("model") or "")
        model = data.get("model") if behind is None else behind.model
        attempt, group = await self._held(function, data, identity, model, deployments)
        own = notes(data)
        self._attempts.put(attempt, own, *([record_of(data)] if "litellm_logging_obj" in data else ()))
        strips = function.name == "text_completion" and data.get(_STRIPS_USAGE) is True
        own[_HIDES_USAGE] = strips or attempt.asked.hides_usage
        own.pop(_DOWNGRADED, None)
        if group is not None:
            own[_DOWNGRADED] = str(attempt.call.model)
        changed = {**attempt.asked.chosen(attempt.call), **attempt.asked.usage_asked_for()}
        if strips:
            changed[_STRIPS_USAGE] = False
        return {**changed, "model": data.get("model") if group is None else group}

    async def _held(
        self, function: Function, data: dict[str, Any], who: Identity, model: str | None, known: Deployments | None
    ) -> tuple[Attempt, str | None]:
        """A reservation, and the group that serves where a cap led to a cheaper model."""
        asked = Asked.of(function, data, who, model=model, rewritable=known is not None)
        call = asked.call(self.guard)
        await call.abegin()
        if call.model in (None, model) or known is None:
            return Attempt(asked, call, placed=False), None
        cheaper = known.first_serving(str(call.model))
        if cheaper is not None:
            return Attempt(asked, call, placed=False), cheaper.group
        self._once.warn(f"capguard: no model of the proxy serves {call.model}; a downgrade to it lets calls pass")
        call.release()
        await call.afinish()
        return await self._held(function, data, who, model, None)

    def _keep_headers(self) -> None:
        """Before the first refusal: the proxy's application does not stand yet when this callback is made."""
        if self._keeps_headers is None:
            from litellm.proxy import proxy_server

            self._keeps_headers = keep_headers(proxy_server.app)
            if not self._keeps_headers:
                log.warning("capguard: refused images are answered without Retry-After and x-should-retry")


def _deployments() -> Deployments | None:
    """Those of the proxy's Router; None for a proxy without one."""
    from litellm.proxy import proxy_server

    return None if proxy_server.llm_router is None else Deployments(proxy_server.llm_router)
