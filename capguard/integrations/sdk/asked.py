"""One request of an SDK, read for its caps, and the same request with the decision written into it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

from capguard.arguments import read_request, tier_in
from capguard.call import Call
from capguard.guard import Guard
from capguard.integrations.sdk.endpoint import Endpoint


class Asked(NamedTuple):
    """A request as the SDK is about to send it."""

    endpoint: Endpoint
    options: Any
    body: Mapping[str, Any]

    @classmethod
    def of(cls, endpoint: Endpoint, options: Any) -> Asked:
        body = options.json_data if isinstance(options.json_data, Mapping) else {}
        return cls(endpoint, options, {**body, **(getattr(options, "extra_json", None) or {})})

    @property
    def model(self) -> str | None:
        return self.body.get("model")

    @property
    def hides_usage(self) -> bool:
        """Whether the stream is made to report its usage although the caller did not ask for that chunk."""
        asked = (self.body.get("stream_options") or {}).get("include_usage")
        return self.endpoint.usage_on_request and bool(self.body.get("stream")) and not asked

    def call(self, guard: Guard, who: Mapping[str, Any]) -> Call:
        """The call, to be entered. Raises ValueError for arguments that no call can have."""
        asked = {"model": self.model, **self.endpoint.asks(self.body), **tier_in(self.body), **who}
        return Call(guard, read_request(asked, rewritable=self.model is not None, draws=self.endpoint.draws))

    def decided(self, call: Call) -> Any:
        """The request to send: the model that was chosen, its limit, and the usage asked for where it streams."""
        changes = self.endpoint.decided(call.params)
        if self.hides_usage:
            changes["stream_options"] = {**(self.body.get("stream_options") or {}), "include_usage": True}
        if all(self.body.get(name) == value for name, value in changes.items()):
            return self.options
        options = copy.copy(self.options)
        options.json_data = {**(self.options.json_data or {}), **changes}
        if extra := getattr(options, "extra_json", None):  # the SDK lays it over the body
            options.extra_json = {name: changes.get(name, value) for name, value in extra.items()}
        return options
