"""What a call of LangChain asks, in the words of `Guard.reserve`: its model, its output limit, its tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capguard.arguments import OUTPUT_LIMITS, tier_in

_LIMITS = ("max_output_tokens", "max_completion_tokens", "max_tokens", "max_tokens_to_sample", "num_predict")


def asked(params: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """From the parameters of an invocation and the metadata of its run, as callbacks are told them.

    `model` is the one of this call; `model_name` would stay that of the constructor, whatever the call says.
    """
    named = (params.get("model"), metadata.get("ls_model_name"), params.get("model_name"))
    limits = (*(params.get(name) for name in _LIMITS), metadata.get("ls_max_tokens"))
    told = {
        "model": next((name for name in named if isinstance(name, str) and name), None),
        "max_tokens": next((limit for limit in limits if _is_count(limit)), None),
        "n": max([params[name] for name in ("n", "best_of") if _is_count(params.get(name))], default=None),
        "tools": tools_of(params),
    }
    return {name: value for name, value in {**told, **tier_in(params)}.items() if value is not None}


def tools_of(params: Mapping[str, Any]) -> list[Any] | None:
    """Everything beside the messages that goes into the prompt: tools, functions, the schema of the answer."""
    found = [*(params.get("tools") or ()), *(params.get("functions") or ())]
    if params.get("response_format"):
        found.append(params["response_format"])
    return found or None


def limit_name(params: Mapping[str, Any]) -> str:
    """Under which name the output limit of this call goes to the provider."""
    return next((name for name in _LIMITS if _is_count(params.get(name))), OUTPUT_LIMITS[0])


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0
