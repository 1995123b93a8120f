"""A Runnable that LangChain built around one model, with another model in its place."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableBinding, RunnableParallel, RunnableSequence


def replaced(built: Runnable[Any, Any], model: BaseChatModel, by: BaseChatModel) -> Runnable[Any, Any]:
    """`built` with `by` for `model`: the model itself, what is bound to it, and the steps around it.

    Raises TypeError where `model` is not found: a call past its caps must not go unnoticed.
    """
    made: Runnable[Any, Any] = _replaced(built, model, by)
    if made is built:
        raise TypeError(f"{type(model).__name__} builds {type(built).__name__} in a way that cannot be capped")
    return made


def _replaced(built: Any, model: BaseChatModel, by: BaseChatModel) -> Any:
    if built is model:
        return by
    if isinstance(built, RunnableBinding):
        bound = _replaced(built.bound, model, by)
        return built if bound is built.bound else built.model_copy(update={"bound": bound})
    if isinstance(built, RunnableSequence):
        steps = [_replaced(step, model, by) for step in built.steps]
        return built if steps == built.steps else RunnableSequence(*steps, name=built.name)
    if isinstance(built, RunnableParallel):
        named = {name: _replaced(step, model, by) for name, step in built.steps__.items()}
        return built if named == built.steps__ else RunnableParallel(named)
    return built
