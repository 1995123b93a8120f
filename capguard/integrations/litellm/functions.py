"""The functions of LiteLLM that are capped: where each one says its model, what it asks, and its output limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple


class Function(NamedTuple):
    """One function. `asks` maps the arguments of `Guard.reserve` to its own; a clamp writes the first of `limits`."""

    name: str
    asks: Mapping[str, str]
    limits: Sequence[str] = ()
    counts_choices: bool = False
    usage_on_request: bool = False

    @property
    def prompt_name(self) -> str:
        """Its own name for what is asked."""
        return next(iter(self.asks.values()))

    @property
    def is_image(self) -> bool:
        return self.name == "image_generation"

    def prompt(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """What is asked, as the estimate takes it."""
        asked = {name: value for name, own in self.asks.items() if (value := kwargs.get(own)) is not None}
        if self.counts_choices and kwargs.get("n") is not None:
            asked["n"] = kwargs["n"]
        return asked | dict(self._limit(kwargs))

    def _limit(self, kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """The one output limit that holds, where several are given: the provider's newer name."""
        return [(name, kwargs[name]) for name in self.limits if kwargs.get(name) is not None][:1]

    def limited(self, kwargs: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The output limit to pass on, under the names that the caller used, else under the function's own."""
        clamped = [value for name, value in chosen.items() if name != "model"]
        if not clamped or not self.limits:
            return {}
        given = [name for name in self.limits if kwargs.get(name) is not None]
        return dict.fromkeys(given or [self.limits[-1]], clamped[0])


FUNCTIONS: Final = {
    each.name: each
    for each in (
        Function(
            "completion",
            {"messages": "messages", "tools": "tools"},
            ("max_completion_tokens", "max_tokens"),
            counts_choices=True,
            usage_on_request=True,
        ),
        Function("text_completion", {"prompt": "prompt"}, ("max_tokens",), counts_choices=True, usage_on_request=True),
        Function("embedding", {"input": "input"}),
        Function("responses", {"input": "input", "system": "instructions", "tools": "tools"}, ("max_output_tokens",)),
        Function("image_generation", {"prompt": "prompt"}, counts_choices=True),
    )
}
"""By their sync names; the async ones have an `a` in front."""

_MESSAGES: Final = Function(
    "anthropic_messages", {"messages": "messages", "system": "system", "tools": "tools"}, ("max_tokens",)
)


def function_of(call_type: str | None) -> Function | None:
    """The function that LiteLLM's hooks call `acompletion`, `anthropic_messages`, ...; None for one without caps."""
    name = call_type or ""
    if name == _MESSAGES.name:
        return _MESSAGES
    return FUNCTIONS.get(name) or FUNCTIONS.get(name.removeprefix("a"))
