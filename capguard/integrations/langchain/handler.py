"""The callback handler: reserves when a model is started, before its provider is called, and books whichever end comes.

It is sync, inline and raises: only such a handler stops a call on every path. LangChain swallows what async handlers
raise on its sync paths, and what others raise is only logged. So the ledger is asked in the caller's own thread or
event loop, for one short step each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from capguard.arguments import read_request
from capguard.call import Call
from capguard.default import default_guard
from capguard.errors import CapExceeded, IdempotencyMismatch
from capguard.guard import Guard
from capguard.identity import enter_call
from capguard.integrations.langchain.asked import asked
from capguard.integrations.langchain.errors import final_for_langchain
from capguard.integrations.langchain.runs import OPEN, Run, drop, is_told, place_in_batch, refuse, take, told_of
from capguard.integrations.langchain.who import Who
from capguard.policy.document import Cap

CAPPED_BY = "ls_capguard"
"""Stands in the metadata of runs that are reserved already: the models of `capped_model`."""


class CapguardCallbackHandler(BaseCallbackHandler):
    """Caps for the models of LangChain: `chain.invoke(x, {"callbacks": [CapguardCallbackHandler(guard)]})`.

    Give it to one call, to one model (`ChatOpenAI(callbacks=[...])`), or to everything (`install`). A refused call
    raises `CapExceeded` before the provider is called. Without `guard`, the process's own holds (`configure`).

    Identity fields given here hold for every call; others come from `identify`, then from the metadata of the call's
    config: `{"metadata": {"user_id": "ada", "plan": "pro"}}`. `metadata` says which key names which field. `caps` hold
    for the calls of this handler alone. Raises ValueError for a field that does not exist.
    """

    raise_error = True
    run_inline = True
    ignore_chain = True
    ignore_agent = True
    ignore_retriever = True
    ignore_retry = True
    ignore_custom_event = True

    def __init__(
        self,
        guard: Guard | None = None,
        *,
        metadata: Mapping[str, str | tuple[str, ...] | None] | None = None,
        caps: Sequence[Cap] = (),
        **identity: Any,
    ):
        super().__init__()
        self._guard = guard
        self._who = Who(identity, metadata)
        self._caps = list(caps)

    @property
    def guard(self) -> Guard:
        return self._guard or default_guard()

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],  # noqa: ARG002
        messages: list[list[Any]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._start(run_id, {"messages": messages[0]}, metadata or {}, kwargs)

    def on_llm_start(
        self,
        serialized: dict[str, Any],  # noqa: ARG002
        prompts: list[str],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._start(run_id, {"prompt": prompts[0]}, metadata or {}, kwargs)

    def on_llm_new_token(self, token: Any, *, run_id: UUID, chunk: Any = None, **_: Any) -> None:
        run = OPEN.get(self._key(run_id))
        if run is not None and run.owner is self:
            run.feed(getattr(chunk, "message", None) or token)

    def on_stream_event(self, event: Any, *, run_id: UUID, **_: Any) -> None:
        run = OPEN.get(self._key(run_id))
        delta = event.get("delta") or event.get("content_block") or {}
        if run is not None and run.owner is self and event.get("event") == "content-block-delta":
            for name in ("text", "reasoning", "args"):
                run.feed(delta.get(name) if isinstance(delta.get(name), str) else None)

    def on_llm_end(self, response: Any, *, run_id: UUID, **_: Any) -> None:
        if (run := take(self._key(run_id))) is not None:
            run.end(response)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        if (run := take(self._key(run_id))) is not None:
            run.fail(error)

    def _start(
        self, run_id: UUID, prompt: Mapping[str, Any], metadata: Mapping[str, Any], told: Mapping[str, Any]
    ) -> None:
        key, params = self._key(run_id), told.get("invocation_params")
        if metadata.get(CAPPED_BY) == id(self.guard) or is_told(key, params):
            return
        params = told if params is None else params
        drop(key)  # still open under the same run_id, so another call's: the end of this one must not be taken for its
        said = {**asked(params, metadata), **prompt, "identity": self._who.identity(metadata), "caps": self._caps}
        try:
            with final_for_langchain():
                call = self._held(run_id, params, said)
        except BaseException:
            refuse(params)
            raise
        if call is not None:
            OPEN[key] = Run(key, run_id, call, self, params, place_in_batch(params, self.guard))
            if told.get("batch_size", 1) == 1:  # of several prompts nobody tells which one is being sent
                enter_call(call)  # a capped layer below charges this call

    def _held(self, run_id: UUID, params: Mapping[str, Any], said: Mapping[str, Any]) -> Call | None:
        """The run's id is the idempotency key; but a config that is used again brings the id of another call.

        None where a handler of another Guard on the same ledger holds this run already, by other settings.
        """
        shared = told_of(run_id, params)
        try:
            call = self._begun(said, str(run_id) if shared is None else shared.call.id)
            if shared is not None or not _repeated(call):
                return call
        except IdempotencyMismatch:
            if shared is not None:
                return None
        return self._begun(said, None)

    def _begun(self, said: Mapping[str, Any], id: str | None) -> Call:
        request = read_request({**said, "id": id}, rewritable=False)
        call = Call(self.guard, request)
        call.begin()
        if call.id == request.id:  # not an outer layer's
            _refuse_clamped(call)
        return call

    def _key(self, run_id: UUID) -> tuple[int, int]:
        return run_id.int, id(self.guard)


def _repeated(call: Call) -> bool:
    return call.reservation is not None and call.reservation.repeated


def _refuse_clamped(call: Call) -> None:
    """A callback cannot lower the output limit of a call: a clamp that would have to refuses."""
    assert call.reservation is not None
    if clamps := [cap for cap in call.reservation.decision.passed if cap.action == "clamp"]:
        call.release()
        call.finish()
        raise CapExceeded(clamps)
