"""One call to a function of LiteLLM, read for its caps: what it asks, who asks, and how a decision is put back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from capguard.arguments import Request, read_request, tier_in
from capguard.call import Call
from capguard.guard import Guard
from capguard.identity import Identity
from capguard.integrations.litellm.failures import nothing_billed
from capguard.integrations.litellm.functions import Function


class Asked(NamedTuple):
    """A call as the caller wrote it, and the request that its caps are asked with."""

    function: Function
    kwargs: Mapping[str, Any]
    request: Request

    @classmethod
    def of(
        cls,
        function: Function,
        kwargs: Mapping[str, Any],
        identity: Identity,
        *,
        model: str | None = None,
        rewritable: bool = True,
    ) -> Asked:
        """Read one call. `model` is the one whose price holds, where it is called by another name.

        Raises ValueError for arguments that no call can have.
        """
        model = model or kwargs.get("model")
        asks = {"model": model, "identity": identity, **function.prompt(kwargs), **tier_in(kwargs)}
        return cls(function, kwargs, read_request(asks, rewritable=rewritable, draws=function.is_image))

    @property
    def streams(self) -> bool:
        return bool(self.kwargs.get("stream"))

    @property
    def hides_usage(self) -> bool:
        """Whether the stream is made to report its usage although the caller did not ask for that chunk."""
        options = self.kwargs.get("stream_options") or {}
        return self.streams and self.function.usage_on_request and not options.get("include_usage")

    def call(self, guard: Guard) -> Call:
        """The call, to be entered."""
        return Call(guard, self.request, unbilled=nothing_billed)

    def arguments(self, call: Call) -> dict[str, Any]:
        """What to pass to LiteLLM: the model that was chosen, the limit, and an id by which a callback knows us."""
        arguments = {**self.kwargs, **self.chosen(call), **self.usage_asked_for()}
        arguments.setdefault("litellm_call_id", call.id)
        return arguments

    def usage_asked_for(self) -> dict[str, Any]:
        """What makes a stream report its usage that would not."""
        if not self.hides_usage:
            return {}
        return {"stream_options": {**(self.kwargs.get("stream_options") or {}), "include_usage": True}}

    def chosen(self, call: Call) -> dict[str, Any]:
        """What the decision changes: the model after a downgrade, the output limit after a clamp."""
        changed = self.function.limited(self.kwargs, call.params)
        if call.model is not None and call.model != self.request.model:
            changed["model"] = call.model
        return changed
