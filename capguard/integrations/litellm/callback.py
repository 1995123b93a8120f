"""A callback of LiteLLM that caps async calls where they are: in the SDK, in a Router, with no call site changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from capguard.default import default_guard
from capguard.errors import CapguardError
from capguard.guard import Guard
from capguard.identity import Identity
from capguard.integrations.litellm import host, late, observed, who
from capguard.integrations.litellm.asked import Asked
from capguard.integrations.litellm.attempts import Attempt, Attempts, record_of
from capguard.integrations.litellm.covered import COVERED
from capguard.integrations.litellm.deployments import priced
from capguard.integrations.litellm.functions import Function, function_of
from capguard.integrations.litellm.once import Once
from capguard.integrations.litellm.refusals import lasting
from capguard.integrations.litellm.replies import record_whole

host.litellm()

from litellm.integrations.custom_logger import CustomLogger  # noqa: E402 - after the error that names the extra

log = logging.getLogger("capguard")

_HOOKS = (
    "async_pre_call_deployment_hook",
    "async_post_call_success_deployment_hook",
    "async_post_call_failure_deployment_hook",
    "async_log_success_event",
    "async_log_failure_event",
    "log_success_event",
    "log_failure_event",
)


class CapguardCallback(CustomLogger):
    """`litellm.callbacks = [CapguardCallback(guard)]`: async calls are blocked, downgraded, booked and released.

    A refusal is `CapExceeded`; no `num_retries` steps over it, it cools no deployment down and triggers no retry. Calls
    of `CappedLiteLLM` are left alone, an open call of an outer layer is taken over: each is charged once. A stream is
    booked by LiteLLM's success event; one that its reader leaves fires none, so that its expiry books it.

    **Sync calls cannot be blocked by a callback**, only booked afterwards: `CappedLiteLLM` caps them.

    Without `guard`, the process's own holds (`configure`). Raises RuntimeError where this LiteLLM lacks one of the
    hooks that it hangs on.
    """

    def __init__(self, guard: Guard | None = None):
        super().__init__()
        host.require_inside("a callback")
        host.require(CustomLogger, _HOOKS, "CustomLogger")
        self._guard = guard
        self._attempts = Attempts()
        self._once = Once(log)

    @property
    def guard(self) -> Guard:
        return self._guard or default_guard()

    async def aflush(self) -> None:
        """Wait until the events that LiteLLM has put aside are booked: before an event loop ends."""
        from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

        await host.turn_of_the_loop()
        await GLOBAL_LOGGING_WORKER.flush()

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> dict[str, Any] | None:
        """Before each attempt: hold, or refuse."""
        function = function_of(getattr(call_type, "value", call_type))
        if function is None:
            self._once.warn(f"capguard: calls of LiteLLM's {call_type} are not capped")
            return None
        if self._is_covered(kwargs) or kwargs.get("fallbacks") is not None:
            return None  # with fallbacks it only hands on to calls that come here by themselves
        try:
            return await self._hold(function, kwargs)
        except CapguardError as error:
            raise lasting(error) from error

    async def async_post_call_success_deployment_hook(self, request_data: Any, response: Any, call_type: Any) -> None:
        """After each attempt that answered, before its caller sees the answer."""
        if (attempt := self._attempts.take(request_data)) is not None:
            record_whole(attempt.call, response)
            await attempt.call.afinish()

    async def async_post_call_failure_deployment_hook(
        self,
        request_data: Any,
        exception: Exception,
        call_type: Any,
        fallback_depth: int | None = None,
    ) -> None:
        """After each attempt that failed."""
        if (attempt := self._attempts.take(request_data)) is not None:
            await attempt.call.afinish(exception)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Later: streams that came to their end, and answers from LiteLLM's cache."""
        if (attempt := self._attempts.take(kwargs)) is not None:
            late.record(attempt, kwargs, response_obj)
            await attempt.call.afinish()

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Streams that broke off, and calls that failed between the hook and the provider."""
        if (attempt := self._attempts.take(kwargs)) is not None:
            await attempt.call.afinish(kwargs.get("exception"))

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """After a sync call, in a thread of LiteLLM: `responses` came past the hook, the others are to be booked."""
        if (attempt := self._attempts.take(kwargs)) is not None:
            late.record(attempt, kwargs, response_obj)
            attempt.call.finish()
        elif observed.is_sync(kwargs) and kwargs.get("litellm_call_id") not in COVERED:
            self._once.warn(
                "capguard: a callback of LiteLLM cannot block sync calls; they are booked when they are over."
                " To cap them, call CappedLiteLLM(guard).completion(...), or use the async functions"
            )
            observed.book(self.guard, kwargs, response_obj, self.identity(observed.arguments(kwargs)))

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """After a sync `responses` that failed."""
        if observed.is_sync(kwargs) and (attempt := self._attempts.take(kwargs)) is not None:
            attempt.call.finish(kwargs.get("exception"))

    def identity(self, kwargs: Mapping[str, Any]) -> Identity:
        """Who calls, as far as the arguments say."""
        return who.said(None, kwargs)

    def _is_covered(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether a wrapper charges this call."""
        return kwargs.get("litellm_call_id") in COVERED

    async def _hold(self, function: Function, kwargs: dict[str, Any]) -> dict[str, Any]:
        straight = self._without_detours(kwargs)
        given = host.by_name(function.prompt_name, kwargs)
        model = priced(given)
        if (open_attempt := self._attempts.find(kwargs)) is not None:
            if open_attempt.placed or open_attempt.call.model == model:
                open_attempt.placed = True
                return straight  # held for it, or a function of LiteLLM inside of another: one call, one hold
            self._attempts.take(kwargs)
            open_attempt.call.release()
            await open_attempt.call.afinish()
        asked = Asked.of(function, given, self.identity(given), model=model, rewritable=self._is_rewritable(kwargs))
        call = asked.call(self.guard)
        await call.abegin()
        self._attempts.put(Attempt(asked, call), record_of(kwargs))
        chosen = asked.chosen(call)
        if "model" in chosen and kwargs.get("custom_llm_provider"):
            chosen["model"] = chosen["model"].removeprefix(f"{kwargs['custom_llm_provider']}/")
        return {**straight, **chosen}

    def _is_rewritable(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether the hook may put another model in: not for a positional one, nor for a name at one host only."""
        model = kwargs.get("model")
        rewritable = isinstance(model, str) and not model.startswith("azure")
        if not rewritable:
            self._once.warn(
                "capguard: a callback cannot rewrite a model that is given by position or names an Azure deployment;"
                " downgrade caps let such calls pass"
            )
        return rewritable

    def _without_detours(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments without what makes LiteLLM try again past this hook: the provider's client retries instead."""
        straight = dict(kwargs)
        if straight.get("context_window_fallback_dict") or straight.get("retry_policy"):
            self._once.warn(
                "capguard: context_window_fallback_dict and retry_policy would step past the cap and are dropped;"
                " a Router's fallbacks and retries are capped"
            )
            straight |= {"context_window_fallback_dict": None, "retry_policy": None}
        if straight.get("num_retries"):
            straight |= {"num_retries": None, "max_retries": straight.get("max_retries") or straight["num_retries"]}
        if host.litellm().num_retries:
            self._once.warn("capguard: litellm.num_retries would step past the cap and is dropped; set max_retries")
            straight["num_retries"] = 0
        return straight
