"""What of a prompt is text to count and what counts flat, for every form a host may hand over.

Messages are dicts, pydantic objects, LangChain messages, (role, text) pairs or plain strings; prompts and inputs are
texts, token ids, or lists of them. What is unknown counts as its `str`. Nothing is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from capguard.pricing.images import Picture, picture_of

PER_MESSAGE, PER_NAME, PRIMING = 3, 1, 3
"""OpenAI's chat format around each message, its name and the reply (openai-cookbook, How to count tokens)."""

BLOB_TOKENS, BLOB_CHARACTERS_PER_TOKEN = 1_600, 16
"""Files carry no countable text: a flat bound, plus one token per so many characters of data."""

MEDIA_CHARACTERS_PER_TOKEN = 64
"""Sound is billed at 10 (OpenAI) to 32 (Gemini) tokens a second, and a second of it has 2 KB or more."""

_IMAGES = {"image", "image_url", "input_image"}
_MEDIA = {"input_audio", "audio", "video", "video_url", "media"}
_BLOBS = _MEDIA | {"file", "input_file", "document", "container_upload"}
_NOT_TEXT = _IMAGES | _BLOBS
_TEXTS = ("text", "refusal", "thinking", "reasoning")
_BODIES = ("content", "output")
_DEEPEST = 32


@dataclass(slots=True)
class Content:
    """Texts to count, tokens that are known without counting, and what counts flat.

    `for_an_hour`: something is to be cached for an hour, which costs more than for minutes.
    """

    texts: list[str] = field(default_factory=list)
    overhead: int = 0
    images: list[Picture] = field(default_factory=list)
    blobs: int = 0
    tools: bool = False
    for_an_hour: bool = False

    def add(self, text: Any) -> None:
        if isinstance(text, str) and text:
            self.texts.append(text)


def content_of(*, messages: Any, prompt: Any, input: Any, tools: Any, system: Any = None) -> Content:
    """Everything that the provider will read."""
    content = Content()
    if messages is not None:
        _conversation(messages, content)
    for given in (prompt, input):
        _plain(given, content)
    _part(system, content, 0)
    if tools:
        content.tools = True
        content.add(compact([_plain_value(tool) for tool in tools] if isinstance(tools, (list, tuple)) else tools))
    return content


def compact(value: Any) -> str:
    """Compact JSON; what JSON does not know becomes its `str`."""
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _conversation(messages: Any, content: Content) -> None:
    """One conversation, or LangChain's list of several."""
    if callable(to_messages := getattr(messages, "to_messages", None)):
        messages = to_messages()
    if not isinstance(messages, (list, tuple)):
        messages = [messages]
    if _several(messages):
        for conversation in messages:
            _conversation(conversation, content)
        return
    content.overhead += PRIMING
    for message in messages:
        _message(message, content)


def replies(*, messages: Any, prompt: Any) -> int:
    """How many replies a call asks for: one for each prompt of a list, one for each of several conversations."""
    if isinstance(prompt, (list, tuple)) and prompt and not _token_ids(prompt):
        return len(prompt)
    return len(messages) if _several(messages) else 1


def _several(messages: Any) -> bool:
    """Conversations are lists of messages; a message may itself be a [role, text] pair."""
    return (
        isinstance(messages, (list, tuple))
        and bool(messages)
        and all(isinstance(one, list) and not (one and isinstance(one[0], str)) for one in messages)
    )


def _plain(given: Any, content: Content) -> None:
    """A prompt or input: a text, token ids, a list of either, or the messages of the responses API."""
    if given is None:
        return
    if isinstance(given, str):
        content.add(given)
    elif _token_ids(given):
        content.overhead += len(given)
    elif isinstance(given, (list, tuple)) and all(isinstance(one, str) or _token_ids(one) for one in given):
        for one in given:
            _plain(one, content)
    else:
        _conversation(given, content)


def _token_ids(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(type(one) is int for one in value)


def _message(message: Any, content: Content) -> None:
    content.overhead += PER_MESSAGE
    fields = _message_fields(message)
    if fields is None:
        content.add(message if isinstance(message, str) else str(message))
        return
    if fields.get("type") in _NOT_TEXT:
        _part(fields, content, 0)
        return
    if fields.get("name"):
        content.overhead += PER_NAME
    for name, value in fields.items():
        if name in _BODIES:
            _part(value, content, 0)
        elif value is not None:
            content.add(value if isinstance(value, str) else compact(_plain_value(value)))


def _message_fields(message: Any) -> Mapping[str, Any] | None:
    if type(message) is dict or isinstance(message, Mapping):  # asking the abstract class takes far longer
        return message
    if isinstance(message, (tuple, list)) and len(message) == 2:
        return {"role": message[0], "content": message[1]}
    if hasattr(message, "additional_kwargs") and hasattr(message, "content"):
        return _langchain_fields(message)
    dumped = _plain_value(message)
    return dumped if isinstance(dumped, Mapping) else None


def _langchain_fields(message: Any) -> dict[str, Any]:
    calls = getattr(message, "tool_calls", None) or message.additional_kwargs.get("tool_calls")
    answered = getattr(message, "tool_call_id", None)
    named = {"role": getattr(message, "type", None), "name": getattr(message, "name", None)}
    return {**named, "content": message.content, "tool_calls": calls or None, "tool_call_id": answered}


def _plain_value(value: Any) -> Any:
    """A pydantic object as the dict that is sent, a pydantic class as its schema; anything else as it is."""
    if isinstance(value, type):
        schema = getattr(value, "model_json_schema", None)
        return schema() if callable(schema) else value
    dump = getattr(value, "model_dump", None)
    return dump(exclude_none=True, warnings=False) if callable(dump) else value


def _part(part: Any, content: Content, depth: int) -> None:
    """One content part, or a list of them."""
    if part is None:
        return
    if isinstance(part, str):
        content.add(part)
        return
    if isinstance(part, (list, tuple)) and depth < _DEEPEST:
        for one in part:
            _part(one, content, depth + 1)
        return
    part = _plain_value(part)
    if isinstance(part, Mapping):
        _mapping_part(part, content, depth)
    else:
        content.add(str(part))


def _mapping_part(part: Mapping[str, Any], content: Content, depth: int) -> None:
    kind, cached = part.get("type"), part.get("cache_control")
    if isinstance(cached, Mapping) and cached.get("ttl") == "1h":
        content.for_an_hour = True
    if kind in _IMAGES or "inline_data" in part:
        content.images.append(picture_of(part))
    elif kind in _BLOBS:
        _blob(part, content, depth)
    elif any(isinstance(part.get(name), str) for name in _TEXTS):
        for name in _TEXTS:
            content.add(part.get(name))
    elif "content" in part and depth < _DEEPEST:  # a tool's result: its texts and images, and the ids around them
        content.add(compact({name: value for name, value in part.items() if name != "content"}))
        _part(part["content"], content, depth + 1)
    else:
        content.add(compact(part))


def _blob(part: Mapping[str, Any], content: Content, depth: int) -> None:
    source = part.get("source")
    if isinstance(source, Mapping) and source.get("type") in ("text", "content") and depth < _DEEPEST:
        _part(source.get("data") or source.get("content"), content, depth + 1)
        return
    each = MEDIA_CHARACTERS_PER_TOKEN if part.get("type") in _MEDIA else BLOB_CHARACTERS_PER_TOKEN
    content.blobs += BLOB_TOKENS + _longest_text(part) // each


def _longest_text(value: Any, depth: int = 0) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return max((_longest_text(one, depth + 1) for one in value.values()), default=0)
    return 0
