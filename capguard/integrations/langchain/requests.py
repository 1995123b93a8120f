"""What a model request of an agent says to the caps: its parameters, its tools, and who is calling."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from langchain_core.runnables.config import ensure_config
from langchain_core.utils.function_calling import convert_to_openai_tool


def params_of(request: Any) -> dict[str, Any]:
    """The settings of the call, with the tools and the schema of the answer as they go into the prompt."""
    tools = [tool if isinstance(tool, dict) else convert_to_openai_tool(tool) for tool in request.tools]
    schema = getattr(request.response_format, "schema", request.response_format)
    shape = {"response_format": schema} if schema is not None else {}
    return {**request.model_settings, "tools": tools, **shape}


def metadata_of(runtime: Any) -> dict[str, Any]:
    """What names the caller: the config's metadata, over its `configurable`, over the context of the run."""
    config = ensure_config()
    context = _mapping(getattr(runtime, "context", None))
    return {**context, **config.get("configurable", {}), **config.get("metadata", {})}


def _mapping(context: Any) -> Mapping[str, Any]:
    if isinstance(context, Mapping):
        return context
    if dataclasses.is_dataclass(context) and not isinstance(context, type):
        return {field.name: getattr(context, field.name) for field in dataclasses.fields(context)}
    return getattr(context, "__dict__", {})
