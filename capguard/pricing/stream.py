"""Reading a stream as it passes: the text that was seen, and the usage once the provider reports it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from capguard.pricing.fields import count, get, items_of, path, text_of
from capguard.pricing.pieces import service_of
from capguard.pricing.responses import read_usage, usage_from
from capguard.pricing.sse import DONE, SSEReader
from capguard.pricing.usage import Usage

_SPOKEN = ("_text.delta", "arguments.delta", "refusal.delta", "code.delta", "input.delta")
_ENDS = ("response.completed", "response.incomplete", "response.failed")


class StreamReader:
    """Feed it every chunk of one stream, as objects, dicts, text or the bytes of an SSE body.

    Known chunks: OpenAI chat, completions and responses, Anthropic messages, LiteLLM, LangChain. Unknown ones are
    passed over. Feeding never raises: a reply that the provider gave is never turned into an exception. `unread` counts
    the chunks that were too odd to read.
    """

    def __init__(self) -> None:
        self.model: str | None = None
        self.unread = 0
        self._usage: Usage | None = None
        self._service: str | None = None
        self._finished = False
        self._texts: list[str] = []
        self._sse = SSEReader()
        self._anthropic: dict[str, int] = {}
        self._anthropic_more: dict[str, Any] = {}

    @property
    def usage(self) -> Usage | None:
        """What the stream reported so far; None as long as it reported nothing."""
        usage = self._usage
        if usage is None or (usage.model and (usage.service or self._service is None)):
            return usage
        return replace(usage, model=usage.model or self.model, service=usage.service or self._service)

    @property
    def partial(self) -> bool:
        """True while the reported usage is not the final one: the input is known, the output is not."""
        return self._usage is not None and not self._finished

    @property
    def reported_input(self) -> int | None:
        """The input tokens, as soon as the stream reported them."""
        return self._usage.input_tokens if self._usage and self._usage.input_tokens else None

    @property
    def text(self) -> str:
        """The output seen so far: texts, reasoning and the arguments of tool calls, joined."""
        return "".join((*self._texts, self._sse.tail()))

    def feed(self, chunk: Any) -> None:
        """Take in one chunk."""
        try:
            self._feed(chunk)
        # The stream goes on to its reader whatever it carries; a missing usage is booked and flagged by the caller.
        except Exception:  # noqa: BLE001
            self.unread += 1

    def _feed(self, chunk: Any) -> None:
        if isinstance(chunk, str):
            self._say(chunk)
        elif isinstance(chunk, (bytes, bytearray, memoryview)):
            for payload in self._sse.feed(bytes(chunk)):
                self._payload(payload)
        elif chunk is not None:
            self._event(chunk)

    def _payload(self, payload: Any) -> None:
        if payload == DONE:
            self._finished = True
        elif isinstance(payload, str):
            self._say(payload)
        else:
            self._event(payload)

    def _event(self, event: Any) -> None:
        kind = get(event, "type")
        message = event if hasattr(event, "usage_metadata") else get(event, "message")
        if hasattr(message, "usage_metadata") and hasattr(message, "response_metadata"):
            self._langchain(message)
        elif get(event, "choices") is not None:
            self._choices(event)
        elif isinstance(kind, str) and kind.startswith("response."):
            self._response(kind, event)
        elif kind == "chunk":  # the event of OpenAI's stream helper around the chunk itself
            self._event(get(event, "chunk"))
        elif isinstance(kind, str):
            self._message_event(kind, event)

    def _say(self, *texts: Any) -> None:
        self._texts.extend(text for text in texts if isinstance(text, str) and text)

    def _name(self, model: Any) -> None:
        if self.model is None and isinstance(model, str) and model:
            self.model = model

    def _choices(self, chunk: Any) -> None:
        """OpenAI chat and completions, LiteLLM: usage comes with the last chunk, or cumulative with each one."""
        self._name(get(chunk, "model"))
        self._service = service_of(chunk) or self._service
        choices = items_of(get(chunk, "choices"))
        for choice in choices:
            self._say(get(choice, "text"), *_spoken(get(choice, "delta") or get(choice, "message")))
        usage = usage_from(get(chunk, "usage"), self.model)
        self._usage = usage or self._usage
        ended = any(get(choice, "finish_reason") for choice in choices)
        self._finished = self._finished or ended or (usage is not None and not choices)

    def _response(self, kind: str, event: Any) -> None:
        """OpenAI responses."""
        response = get(event, "response")
        self._name(get(response, "model"))
        if kind.endswith(_SPOKEN):
            self._say(get(event, "delta"))
        if kind in _ENDS:
            self._usage = read_usage(response) or self._usage
            self._finished = True

    def _message_event(self, kind: str, event: Any) -> None:
        """Anthropic: the input comes first, the output cumulative with message_delta."""
        if kind == "content_block_delta":
            delta = get(event, "delta")
            self._say(*(get(delta, name) for name in ("text", "partial_json", "thinking")))
        elif kind == "message_start":
            self._name(path(event, "message", "model"))
            self._cumulate(path(event, "message", "usage"))
        elif kind == "message_delta":
            self._cumulate(get(event, "usage"))
            self._finished = self._finished or bool(path(event, "delta", "stop_reason"))
        elif kind == "message_stop":
            self._finished = True

    def _cumulate(self, report: Any) -> None:
        names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        for name in names:
            seen = count(get(report, name)) or 0
            self._anthropic[name] = max(seen, self._anthropic.get(name, 0))
        for name in ("cache_creation", "server_tool_use", "service_tier"):
            if (said := get(report, name)) is not None:
                self._anthropic_more[name] = said
        self._usage = usage_from({**self._anthropic, **self._anthropic_more}, self.model)

    def _langchain(self, chunk: Any) -> None:
        """LangChain: the usage of all chunks adds up."""
        metadata = get(chunk, "response_metadata")
        self._name(get(metadata, "model_name") or get(metadata, "model"))
        self._say(*_blocks(get(chunk, "content")))
        self._say(*(get(call, "args") for call in items_of(get(chunk, "tool_call_chunks"))))
        usage = usage_from(get(chunk, "usage_metadata"), self.model)
        if usage is not None:
            self._usage = replace(self._usage + usage, requests=1) if self._usage else usage
        ends = (get(metadata, "finish_reason"), get(metadata, "stop_reason"), get(metadata, "done_reason"))
        self._finished = self._finished or any(ends) or get(chunk, "chunk_position") == "last"


def _spoken(delta: Any) -> Iterable[Any]:
    """Everything in an OpenAI delta that was generated, and so is billed."""
    calls = items_of(get(delta, "tool_calls"))
    functions = [get(call, "function") for call in calls] + [get(delta, "function_call")]
    thoughts = get(delta, "reasoning_content") or get(delta, "reasoning")
    yield from (thoughts, *_blocks(get(delta, "content")), get(delta, "refusal"))
    for function in functions:
        yield from (get(function, "name"), get(function, "arguments"))


def _blocks(content: Any) -> Iterable[str]:
    """The texts of a content that is one text or a list of blocks."""
    if isinstance(content, str):
        yield content
    for block in items_of(content):
        names = ("text", "thinking", "reasoning", "partial_json")
        yield from (text_of(block),) if isinstance(block, str) else (text_of(get(block, name)) for name in names)
