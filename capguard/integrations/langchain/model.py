"""A chat model under caps: it blocks, or falls to a cheaper one, in chains as everywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding
from pydantic import Field, PrivateAttr

from capguard.default import default_guard
from capguard.guard import Guard
from capguard.integrations.langchain import replies
from capguard.integrations.langchain.chunks import atold, told
from capguard.integrations.langchain.errors import final_for_langchain
from capguard.integrations.langchain.handler import CAPPED_BY
from capguard.integrations.langchain.legs import Leg, Legs, ahold, hold, name_of, renamed
from capguard.integrations.langchain.listener import Listener, metadata_here
from capguard.integrations.langchain.steps import replaced
from capguard.integrations.langchain.who import Who
from capguard.policy.document import Cap
from capguard.pricing.responses import read_usage

_OF_THE_RUN = ("cache", "tags", "metadata", "rate_limiter", "disable_streaming", "output_version", "profile", "verbose")
"""What LangChain does around a model, and so has to find on the capped one."""

_FOR_TRACES = ("ls_structured_output_format", "structured_output_format")
"""What LangChain takes out of a call before it reaches a model."""


def capped_model(
    model: BaseChatModel,
    guard: Guard | None = None,
    *,
    cheaper: BaseChatModel | str | Sequence[BaseChatModel | str] = (),
    metadata: Mapping[str, str | tuple[str, ...] | None] | None = None,
    caps: Sequence[Cap] = (),
    **identity: Any,
) -> CappedChatModel:
    """`model` under the caps of `guard`: the same messages, tools, structured output and streams.

    A refused call goes on with the first of `cheaper` that its caps let through, each held by itself; where there is
    none it raises `CapExceeded`. `cheaper` are models, or names of models of the same provider. Where the policy
    downgrades, the model that it names is called. Async calls do not block the event loop. `metadata`, `caps` and
    identity fields are as for `CapguardCallbackHandler`; without `guard`, the process's own holds.
    """
    given = [cheaper] if isinstance(cheaper, (str, BaseChatModel)) else cheaper
    models = [renamed(model, each) if isinstance(each, str) else each for each in given]
    return CappedChatModel(
        capped=model, guard=guard, cheaper=models, who=Who(identity, metadata), caps=[*caps], callbacks=model.callbacks
    )


class CappedChatModel(BaseChatModel):
    """Made by `capped_model`. A chat model of LangChain's that passes every call on, reserved before and booked after.

    The handler of the same Guard leaves it alone, so that it may be in force everywhere. What LangChain's cache answers
    is not even reserved.
    """

    capped: BaseChatModel
    guard: Any = Field(default=None, exclude=True, repr=False)
    cheaper: list[BaseChatModel] = Field(default_factory=list)
    who: Any = Field(default_factory=lambda: Who({}), exclude=True, repr=False)
    caps: list[Any] = Field(default_factory=list, exclude=True)
    _tools: tuple[Sequence[Any], dict[str, Any], dict[str, Any]] | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        for name in _OF_THE_RUN:
            if name not in self.model_fields_set and hasattr(self.capped, name):
                setattr(self, name, getattr(self.capped, name))
        handlers = self.callbacks if isinstance(self.callbacks, list) else getattr(self.callbacks, "handlers", [])
        self.callbacks = [*handlers, Listener()]

    # what LangChain asks a model

    @property
    def model_name(self) -> str | None:
        return name_of(self.capped)

    @property
    def _llm_type(self) -> str:
        return self.capped._llm_type

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return self.capped._identifying_params

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        return self.capped._get_invocation_params(stop=stop, **kwargs)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {**self.capped._get_ls_params(stop=stop, **kwargs), CAPPED_BY: id(self._guard())}

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        return self.capped._get_llm_string(stop=stop, **kwargs)

    def _should_stream(self, **kwargs: Any) -> bool:
        return self.capped._should_stream(**kwargs)

    def get_token_ids(self, text: str) -> list[int]:
        return self.capped.get_token_ids(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Any = None) -> int:
        return self.capped.get_num_tokens_from_messages(messages, tools)

    # what is bound to it

    def bind_tools(self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any) -> Runnable[Any, Any]:
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        bound: Any = self.capped.bind_tools(tools, **kwargs)
        copy = self.model_copy()
        copy._tools = (tools, kwargs, bound.kwargs)
        return RunnableBinding(bound=copy, kwargs=bound.kwargs, config=bound.config)

    def with_structured_output(self, schema: Any, **kwargs: Any) -> Runnable[Any, Any]:
        """As the model's own; by tools where a cheaper model is of another kind, whose own way would be another."""
        if any(type(model) is not type(self.capped) for model in self.cheaper):
            ours = {name: value for name, value in kwargs.items() if name == "include_raw"}
            return super().with_structured_output(schema, **ours)
        return replaced(self.capped.with_structured_output(schema, **kwargs), self.capped, self)

    # the call

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with final_for_langchain():
            leg = hold(self._legs(messages, kwargs))
            with leg.call:
                reply = leg.model._generate(messages, stop, run_manager, **self._kwargs(leg, kwargs))
                replies.record(leg.call, reply, read_usage(reply))
                return reply

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with final_for_langchain():
            leg = await ahold(self._legs(messages, kwargs))
            async with leg.call:
                reply = await leg.model._agenerate(messages, stop, run_manager, **self._kwargs(leg, kwargs))
                replies.record(leg.call, reply, read_usage(reply))
                return reply

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with final_for_langchain():
            leg = hold(self._legs(messages, kwargs))
            chunks = leg.model._stream(messages, stop, run_manager, **self._kwargs(leg, kwargs))
            with leg.call.metered_sync(told(chunks), inside=True) as stream:
                yield from stream

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with final_for_langchain():
            leg = await ahold(self._legs(messages, kwargs))
            chunks = leg.model._astream(messages, stop, run_manager, **self._kwargs(leg, kwargs))
            async with leg.call.metered_async(atold(chunks), inside=True) as stream:
                async for chunk in stream:
                    yield chunk

    def _guard(self) -> Guard:
        return self.guard or default_guard()

    def _legs(self, messages: list[BaseMessage], kwargs: Mapping[str, Any]) -> list[Leg]:
        models = [self.capped, *self.cheaper]
        return Legs(self._guard(), self.who, self.caps).of(models, messages, kwargs, metadata_here())

    def _kwargs(self, leg: Leg, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """What was bound and said for this call, as the model that serves takes it."""
        said = dict(kwargs)
        if leg.model is not self.capped:
            said.pop("model", None)
            if self._tools is not None and type(leg.model) is not type(self.capped):
                tools, options, bound = self._tools
                said = {name: value for name, value in said.items() if name not in bound}
                again = getattr(leg.model.bind_tools(tools, **options), "kwargs", {})
                said |= {name: value for name, value in again.items() if name not in _FOR_TRACES}
        return said | leg.settings
