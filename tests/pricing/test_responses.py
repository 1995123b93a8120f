"""Usage out of real SDK objects and the same shapes as dicts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult

from capguard.pricing.responses import read_usage
from capguard.pricing.usage import Usage
from tests.pricing import wire

FULL = {"input_tokens": 100, "cache_read_tokens": 40, "output_tokens": 30, "reasoning_tokens": 10}
ASK = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture(scope="module")
def litellm() -> Any:
    """LiteLLM, kept from fetching its price list."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import litellm

        return litellm


def ai_message(text: str = "hi", **usage: Any) -> AIMessage:
    metadata = {"input_tokens": 100, "output_tokens": 30, "total_tokens": 130, **usage}
    return AIMessage(content=text, usage_metadata=metadata, response_metadata={"model_name": "gpt-4o"})


DETAILED = {
    "input_token_details": {"cache_read": 40, "cache_creation": 5},
    "output_token_details": {"reasoning": 10},
}


def result_of(*prompts: list[AIMessage], **output: Any) -> LLMResult:
    generations = [[ChatGeneration(message=message) for message in choices] for choices in prompts]
    return LLMResult(generations=generations, llm_output=output or None)


OBJECTS: list[tuple[str, Callable[[], Any], Usage]] = [
    (
        "openai chat",
        lambda: wire.openai_client(wire.CHAT).chat.completions.create(**ASK),
        Usage(model="gpt-4o-2024-08-06", **FULL),
    ),
    (
        "openai chat, raw",
        lambda: wire.openai_client(wire.CHAT).chat.completions.with_raw_response.create(**ASK),
        Usage(model="gpt-4o-2024-08-06", **FULL),
    ),
    (
        "openai completion",
        lambda: wire.openai_client(wire.COMPLETION).completions.create(model="m", prompt="x"),
        Usage(model="gpt-3.5-turbo-instruct", input_tokens=5, output_tokens=7),
    ),
    (
        "openai response",
        lambda: wire.openai_client(wire.RESPONSE).responses.create(model="m", input="x"),
        Usage(model="gpt-5-2025-08-07", cache_write_tokens=5, **FULL),
    ),
    (
        "openai embeddings",
        lambda: wire.openai_client(wire.EMBEDDING).embeddings.create(model="m", input="x", encoding_format="float"),
        Usage(model="text-embedding-3-small", input_tokens=8),
    ),
    (
        "anthropic message: its input excludes the cache",
        lambda: wire.anthropic_client(wire.MESSAGE).messages.create(max_tokens=9, **ASK),
        Usage(
            model="claude-sonnet-4-5-20250929",
            input_tokens=100,
            cache_read_tokens=40,
            cache_write_tokens=5,
            output_tokens=30,
        ),
    ),
    (
        "anthropic message, raw",
        lambda: wire.anthropic_client(wire.MESSAGE).messages.with_raw_response.create(max_tokens=9, **ASK),
        Usage(
            model="claude-sonnet-4-5-20250929",
            input_tokens=100,
            cache_read_tokens=40,
            cache_write_tokens=5,
            output_tokens=30,
        ),
    ),
    ("langchain message", lambda: ai_message(**DETAILED), Usage(model="gpt-4o", cache_write_tokens=5, **FULL)),
    (
        "langchain message with cache writes by age",
        lambda: ai_message(
            input_token_details={"cache_read": 40, "cache_creation": 0, "ephemeral_5m_input_tokens": 5},
        ),
        Usage(model="gpt-4o", input_tokens=100, cache_read_tokens=40, cache_write_tokens=5, output_tokens=30),
    ),
    (
        "langchain generation",
        lambda: ChatGeneration(message=ai_message(**DETAILED)),
        Usage(model="gpt-4o", cache_write_tokens=5, **FULL),
    ),
    (
        "langchain chat result: two choices of one call repeat its usage",
        lambda: ChatResult(generations=[ChatGeneration(message=ai_message()) for _ in range(2)]),
        Usage(model="gpt-4o", input_tokens=100, output_tokens=30),
    ),
    (
        "langchain result: two prompts, two choices each",
        lambda: result_of([ai_message(), ai_message()], [ai_message(), ai_message()]),
        Usage(model="gpt-4o", input_tokens=200, output_tokens=60, requests=2),
    ),
    (
        "langchain result of a plain model: usage only in llm_output",
        lambda: LLMResult(
            generations=[[Generation(text="hi")]], llm_output={"token_usage": wire.CHAT_USAGE, "model_name": "gpt-4o"}
        ),
        Usage(model="gpt-4o", **FULL),
    ),
    (
        "langchain result of Anthropic: usage in its own shape",
        lambda: LLMResult(
            generations=[[Generation(text="hi")]], llm_output={"usage": wire.MESSAGE["usage"], "model": "claude-x"}
        ),
        Usage(model="claude-x", input_tokens=100, cache_read_tokens=40, cache_write_tokens=5, output_tokens=30),
    ),
]


@pytest.mark.parametrize(("make", "usage"), [case[1:] for case in OBJECTS], ids=[case[0] for case in OBJECTS])
def test_reads_sdk_objects(make: Callable[[], Any], usage: Usage) -> None:
    """Every SDK's object gives the same meaning."""
    assert read_usage(make()) == usage


DICTS = [
    (wire.CHAT, Usage(model="gpt-4o-2024-08-06", **FULL)),
    (wire.COMPLETION, Usage(model="gpt-3.5-turbo-instruct", input_tokens=5, output_tokens=7)),
    (wire.EMBEDDING, Usage(model="text-embedding-3-small", input_tokens=8)),
    (wire.RESPONSE, Usage(model="gpt-5-2025-08-07", cache_write_tokens=5, **FULL)),
    (
        wire.MESSAGE,
        Usage(
            model="claude-sonnet-4-5-20250929",
            input_tokens=100,
            cache_read_tokens=40,
            cache_write_tokens=5,
            output_tokens=30,
        ),
    ),
    ({"usage": {"prompt_tokens": 10.0, "completion_tokens": 2.0}}, Usage(input_tokens=10, output_tokens=2)),
    (wire.CHAT_USAGE, Usage(**FULL)),  # the usage alone
    (  # DeepSeek names its cache hits itself
        {"model": "d", "usage": {"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 4}},
        Usage(model="d", input_tokens=10, cache_read_tokens=4, output_tokens=2),
    ),
    (  # the caches beside the details, as LiteLLM's older versions have them
        {"usage": {"prompt_tokens": 10, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 5}},
        Usage(input_tokens=10, cache_read_tokens=4, cache_write_tokens=5),
    ),
    (  # a cache that exceeds the prompt stood beside it
        {"usage": {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 40}}},
        Usage(input_tokens=50, cache_read_tokens=40),
    ),
    (  # a part that is no count is left out, the rest is kept
        {"usage": {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": True}}},
        Usage(input_tokens=10),
    ),
    (  # xAI counts reasoning beside the completion: it is billed, so it is not lost
        {
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "total_tokens": 17,
                "completion_tokens_details": {"reasoning_tokens": 5},
            }
        },
        Usage(input_tokens=10, output_tokens=7, reasoning_tokens=5),
    ),
    (  # reasoning that exceeds the completion stood beside it
        {
            "usage": {
                "prompt_tokens": 1,
                "completion_tokens": 2,
                "completion_tokens_details": {"reasoning_tokens": 5},
            }
        },
        Usage(input_tokens=1, output_tokens=7, reasoning_tokens=5),
    ),
    (  # google-genai, by its documentation
        {
            "model_version": "gemini-2.5-pro",
            "usage_metadata": {
                "prompt_token_count": 10,
                "cached_content_token_count": 4,
                "candidates_token_count": 3,
                "thoughts_token_count": 2,
            },
        },
        Usage(model="gemini-2.5-pro", input_tokens=10, cache_read_tokens=4, output_tokens=5, reasoning_tokens=2),
    ),
]


@pytest.mark.parametrize(("reply", "usage"), DICTS)
def test_reads_dicts(reply: dict[str, Any], usage: Usage) -> None:
    """A decoded JSON body is as good as the SDK's object."""
    assert read_usage(reply) == usage


async def test_reads_the_async_clients_raw_response() -> None:
    """The async client's raw response parses without awaiting."""
    client = wire.async_openai_client(wire.CHAT)
    raw = await client.chat.completions.with_raw_response.create(**ASK)
    assert read_usage(raw) == Usage(model="gpt-4o-2024-08-06", **FULL)


@pytest.mark.filterwarnings("ignore:.*ReadOnly.*")
def test_reads_litellm(litellm: Any) -> None:
    """LiteLLM's prompt_tokens include both caches, Anthropic's among them."""
    reply = litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": "x"}], mock_response="hi there")
    usage = read_usage(reply)
    assert usage is not None
    assert usage.input_tokens == reply.usage.prompt_tokens > 0
    reply.usage = litellm.Usage(
        prompt_tokens=100, completion_tokens=30, cache_read_input_tokens=40, cache_creation_input_tokens=5
    )
    read = read_usage(reply)
    assert read is not None
    assert (read.input_tokens, read.cache_read_tokens, read.cache_write_tokens) == (100, 40, 5)


@pytest.mark.filterwarnings("ignore:.*ReadOnly.*")
def test_litellms_zero_usage_is_no_usage(litellm: Any) -> None:
    """A stream that reported nothing leaves zeros behind; a call is never settled at zero for that."""
    reply = litellm.ModelResponse(model="m", usage=litellm.Usage(prompt_tokens=0, completion_tokens=0))
    assert read_usage(reply) is None


class Hostile:
    """Raises on every look."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Endless:
    """Answers everything with itself."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *args: Any) -> Any:
        return self


NOTHING = [
    None,
    "",
    "text",
    b"bytes",
    0,
    [],
    {},
    object(),
    Hostile(),
    Endless(),
    SimpleNamespace(usage=None),
    {"usage": None},
    {"usage": {}},
    {"usage": {"prompt_tokens": None}},
    {"usage": {"prompt_tokens": -1, "completion_tokens": 5}},
    {"usage": {"prompt_tokens": True}},
    {"usage": {"prompt_tokens": "12"}},
    {"usage": {"prompt_tokens": 2**60}},
    {"usage": {"prompt_tokens": 0, "completion_tokens": 0}},
    {"usage": {"input_tokens": 0, "output_tokens": 0}},
    {"generations": [[]]},
    {"generations": 5},
    AIMessage(content="no usage"),
    LLMResult(generations=[]),
    ChatResult(generations=[]),
]


@pytest.mark.parametrize("reply", NOTHING, ids=[type(reply).__name__ + str(n) for n, reply in enumerate(NOTHING)])
def test_never_raises_and_never_invents(reply: Any) -> None:
    """What reports no usage gives None, however odd it is."""
    assert read_usage(reply) is None


def test_a_usage_is_its_own_usage() -> None:
    """A Usage passes through."""
    usage = Usage(input_tokens=1)
    assert read_usage(usage) is usage
