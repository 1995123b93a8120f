"""Caps for agents: `create_agent(..., middleware=[CapguardAgentMiddleware(guard, on_exceeded="end")])`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, get_args

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ModelRequest,
    ModelResponse,
    PrivateStateAttr,
)
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage

from capguard.arguments import mint_id
from capguard.default import default_guard
from capguard.errors import CapExceeded
from capguard.guard import Guard
from capguard.integrations.langchain import replies
from capguard.integrations.langchain.budgets import RUN, budgets
from capguard.integrations.langchain.errors import final_for_langchain
from capguard.integrations.langchain.legs import Leg, Legs, ahold, hold
from capguard.integrations.langchain.requests import metadata_of, params_of
from capguard.integrations.langchain.who import Who
from capguard.policy.document import Cap
from capguard.pricing.responses import read_usage

OnExceeded = Literal["error", "end", "downgrade"]


class CappedState(AgentState[Any]):
    """The state of an agent, with the id of its run: a thread's state outlives the run."""

    capguard_run: NotRequired[Annotated[str, PrivateStateAttr]]


if TYPE_CHECKING:
    _Middleware = AgentMiddleware[CappedState, Any, Any]
else:  # langchain 1.0 takes two parameters, later ones three
    _Middleware = AgentMiddleware


class CapguardAgentMiddleware(_Middleware):
    """Every model call of an agent is reserved before and booked after; async agents do not block the event loop.

    `on_exceeded` says what a refusal does: `error` raises `CapExceeded`; `end` lets the agent finish with `message`, a
    text or a function of the refusal; `downgrade` goes on with the first of `cheaper` that its caps let through, tools
    and all, and raises where there is none. Where the policy downgrades, the model that it names is called in any case.

    `per_run` and `per_thread` limit one run and one thread in dollars. The thread is the `session`, `thread_id` in the
    config. Who is calling is said here, by `identify`, by the config's metadata, by its `configurable` or by the
    runtime's context, in this order. Put it last in the list of middleware, so that it sees each attempt of the others.
    Without `guard`, the process's own holds. Raises ValueError for settings that do not go together.
    """

    state_schema = CappedState

    def __init__(
        self,
        guard: Guard | None = None,
        *,
        on_exceeded: OnExceeded = "error",
        cheaper: BaseChatModel | Sequence[BaseChatModel] = (),
        message: str | Callable[[CapExceeded], str] = "I have to stop here: the budget for this is used up.",
        per_run: Any = None,
        per_thread: Any = None,
        metadata: Mapping[str, str | tuple[str, ...] | None] | None = None,
        caps: Sequence[Cap] = (),
        **identity: Any,
    ):
        super().__init__()
        self._cheaper = [cheaper] if isinstance(cheaper, BaseChatModel) else list(cheaper)
        if on_exceeded not in get_args(OnExceeded):
            allowed = ", ".join(get_args(OnExceeded))
            raise ValueError(f"on_exceeded: {on_exceeded!r} is refused; allowed: {allowed}")
        if on_exceeded == "downgrade" and not self._cheaper:
            raise ValueError("on_exceeded='downgrade' needs cheaper=, the model to go on with")
        self._on_exceeded = on_exceeded
        self._message = message
        self._given = guard
        self._who = Who(identity, metadata)
        self._caps = [*caps, *budgets(per_run, per_thread)]

    def before_agent(self, state: CappedState, runtime: Any) -> dict[str, Any]:  # noqa: ARG002
        return {RUN: mint_id()}

    async def abefore_agent(self, state: CappedState, runtime: Any) -> dict[str, Any]:  # noqa: ARG002
        return {RUN: mint_id()}

    def wrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], Any]) -> Any:
        try:
            with final_for_langchain():
                leg = hold(self._legs(request))
                with leg.call:
                    reply = handler(_request(request, leg))
                    _record(leg, reply)
                    return reply
        except CapExceeded as refused:
            return self._ended(refused)

    async def awrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[Any]]) -> Any:
        try:
            with final_for_langchain():
                leg = await ahold(self._legs(request))
                async with leg.call:
                    reply = await handler(_request(request, leg))
                    _record(leg, reply)
                    return reply
        except CapExceeded as refused:
            return self._ended(refused)

    def _legs(self, request: ModelRequest) -> list[Leg]:
        goes_on = self._on_exceeded == "downgrade"
        models = [request.model, *(self._cheaper if goes_on else ())]
        system = getattr(request, "system_message", None) or request.system_prompt  # a text in langchain 1.0
        messages = [] if not system else [("system", system) if isinstance(system, str) else system]
        run: Any = request.state.get(RUN)
        return Legs(self._given or default_guard(), self._who, self._caps).of(
            models,
            [*messages, *request.messages],
            params_of(request),
            metadata_of(request.runtime),
            others=self._cheaper,
            tags={"run": run} if run else None,
        )

    def _ended(self, refused: CapExceeded) -> AIMessage:
        """The last word of an agent that may not go on."""
        if self._on_exceeded != "end":
            raise refused
        text = self._message(refused) if callable(self._message) else self._message
        return AIMessage(text, response_metadata={"capguard": {"code": refused.code, "cap": refused.cap.id}})


def _request(request: ModelRequest, leg: Leg) -> ModelRequest:
    """The request for the model that was chosen: everything but the model, and a lowered output limit, stays."""
    changed: dict[str, Any] = {} if leg.model is request.model else {"model": leg.model}
    if leg.settings:
        changed["model_settings"] = {**request.model_settings, **leg.settings}
    return request.override(**changed) if changed else request


def _record(leg: Leg, reply: Any) -> None:
    """What a model call came to, in the shape of a result of LangChain's."""
    response = getattr(reply, "model_response", reply)
    messages = response.result if isinstance(response, ModelResponse) else [response]
    result = {"generations": [{"message": message} for message in messages if isinstance(message, AIMessage)]}
    replies.record(leg.call, result, read_usage(result))
