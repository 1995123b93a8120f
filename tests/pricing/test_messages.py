"""Prompts in every form that a host may hand over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel

from capguard.pricing.messages import compact, replies
from capguard.pricing.prompt import count_input
from capguard.pricing.tokens import Count, count_text

MODEL = "gpt-4o"
MESSAGE, NAME, PRIMING, IMAGE = 3, 1, 3, 85 + 8 * 170


def of(*texts: str) -> int:
    return sum(count_text(text, MODEL).tokens for text in texts)


class Weather(BaseModel):
    """Get the weather."""

    place: str


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"q": 1}'}}
PNG = "data:image/png;base64," + "A" * 100_000

FORMS: list[tuple[str, dict[str, Any], int]] = [
    ("nothing", {}, 0),
    ("no messages", {"messages": []}, PRIMING),
    ("one dict", {"messages": [{"role": "user", "content": "hello"}]}, PRIMING + MESSAGE + of("user", "hello")),
    (
        "a name",
        {"messages": [{"role": "user", "name": "Ann", "content": "hello"}]},
        PRIMING + MESSAGE + NAME + of("user", "Ann", "hello"),
    ),
    (
        "pairs",
        {"messages": [("human", "hello"), ["ai", "hi"]]},
        PRIMING + 2 * MESSAGE + of("human", "hello", "ai", "hi"),
    ),
    ("a text for messages", {"messages": "hello"}, PRIMING + MESSAGE + of("hello")),
    (
        "parts",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a b"}, "c", {"type": "input_text", "text": "d"}]}
            ]
        },
        PRIMING + MESSAGE + of("user", "a b", "c", "d"),
    ),
    (
        "an image, by its data",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}]},
        PRIMING + MESSAGE + of("user") + IMAGE,
    ),
    (
        "an image in Anthropic's shape",
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": PNG}}]}]},
        PRIMING + MESSAGE + of("user") + IMAGE,
    ),
    (
        "an image in a tool's result",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": PNG}, "ok"]}
                    ],
                }
            ]
        },
        PRIMING + MESSAGE + of("user", compact({"type": "tool_result", "tool_use_id": "t"}), "ok") + IMAGE,
    ),
    (
        "an image in the output of a function",
        {"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "x": PNG}]}]},
        PRIMING + MESSAGE + of("function_call_output", "c") + IMAGE,
    ),
    (
        "an image as an item of its own",
        {"input": [{"type": "input_image", "image_url": PNG}]},
        PRIMING + MESSAGE + IMAGE,
    ),
    (
        "sound: a flat bound and one per 64 characters",
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "A" * 1600}}]}]},
        PRIMING + MESSAGE + of("user") + 1_600 + 25,
    ),
    (
        "a document of text",
        {
            "messages": [
                {"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "a b c"}}]}
            ]
        },
        PRIMING + MESSAGE + of("user", "a b c"),
    ),
    (
        "a tool's call",
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]},
        PRIMING + MESSAGE + of("assistant", compact([CALL])),
    ),
    (
        "an SDK's message from the reply before",
        {"messages": [ChatCompletionMessage(role="assistant", content="hello")]},
        PRIMING + MESSAGE + of("assistant", "hello"),
    ),
    (
        "langchain",
        {
            "messages": [
                SystemMessage("be kind"),
                HumanMessage("hello", name="Ann"),
                ToolMessage("42", tool_call_id="c1"),
            ]
        },
        PRIMING + 3 * MESSAGE + NAME + of("system", "be kind", "human", "Ann", "hello", "tool", "42", "c1"),
    ),
    (
        "langchain's usage of earlier replies is not sent",
        {"messages": [AIMessage("hi", response_metadata={"long": "x " * 500})]},
        PRIMING + MESSAGE + of("ai", "hi"),
    ),
    (
        "langchain, several conversations",
        {"messages": [[HumanMessage("a")], [HumanMessage("b")]]},
        2 * (PRIMING + MESSAGE) + of("human", "a", "human", "b"),
    ),
    (
        "langchain prompt value",
        {"messages": ChatPromptTemplate.from_messages([("human", "hello")]).invoke({})},
        PRIMING + MESSAGE + of("human", "hello"),
    ),
    ("something else", {"messages": [SimpleNamespace(x=1)]}, PRIMING + MESSAGE + of("namespace(x=1)")),
    ("a prompt", {"prompt": "hello world"}, of("hello world")),
    ("prompts", {"prompt": ["hello", "world"]}, of("hello", "world")),
    ("token ids", {"prompt": [1, 2, 3]}, 3),
    ("lists of token ids", {"input": [[1, 2, 3], [4]]}, 4),
    ("texts to embed", {"input": ["hello", "world"]}, of("hello", "world")),
    ("empty list", {"input": []}, 0),
    (
        "items of the responses API",
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]},
        PRIMING + MESSAGE + of("user", "hello"),
    ),
    ("tools", {"prompt": "x", "tools": [TOOL]}, of("x", compact([TOOL]))),
    ("a tool as a class", {"tools": [Weather]}, of(compact([Weather.model_json_schema()]))),
    ("system", {"system": [{"type": "text", "text": "be kind"}]}, of("be kind")),
]


@pytest.mark.parametrize(("given", "tokens"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS])
def test_counts_every_form(given: dict[str, Any], tokens: int) -> None:
    """Texts, 3 per message, 1 per name, 3 for the reply, and flat bounds for what is not text."""
    assert count_input(MODEL, **given).tokens == tokens


def test_attachments_make_a_count_a_guess() -> None:
    """A flat bound is not exact."""
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}
    assert count_input(MODEL, messages=[image]).how == "factor"
    assert count_input(MODEL, messages=[{"role": "user", "content": "x"}]).how == "exact"


FLAT = [("gpt-4o", 1_445), ("gpt-4o-mini", 48_169), ("gpt-4.1-nano", 3_779), ("claude-opus-4-7", 5_000)]


@pytest.mark.parametrize(("model", "tokens"), FLAT)
def test_images_cost_by_model(model: str, tokens: int) -> None:
    """gpt-4o-mini bills an image at thirty times the tokens of gpt-4o."""
    assert count_input(model, input=[{"type": "input_image"}]) == Count(tokens + 6, tokens + 6, "factor")


def test_anthropic_adds_a_prompt_for_tools() -> None:
    """Anthropic documents up to 530 tokens that it adds as soon as there are tools."""
    with_tools, tool = count_input("claude-sonnet-4-5", tools=[TOOL]), count_text(compact([TOOL]), "claude-sonnet-4-5")
    assert with_tools.tokens - tool.tokens == 530


def test_deep_and_circular_content_ends() -> None:
    """A content that contains itself is counted once and not for ever."""
    content: list[Any] = ["x"]
    content.append(content)
    assert count_input(MODEL, messages=[{"role": "user", "content": content}]).tokens > 0
    call: dict[str, Any] = {"a": 1}
    call["self"] = call
    assert count_input(MODEL, messages=[{"role": "user", "content": call}]).tokens > 0


REPLIES = [
    ({"messages": [{"role": "user", "content": "x"}], "prompt": None}, 1),
    ({"messages": [[HumanMessage("a")], [HumanMessage("b")]], "prompt": None}, 2),
    ({"messages": [["human", "a"], ["ai", "b"]], "prompt": None}, 1),
    ({"messages": None, "prompt": "x"}, 1),
    ({"messages": None, "prompt": ["x", "y", "z"]}, 3),
    ({"messages": None, "prompt": [1, 2, 3]}, 1),
    ({"messages": None, "prompt": [[1, 2], [3]]}, 2),
    ({"messages": None, "prompt": []}, 1),
    ({"messages": [], "prompt": None}, 1),
]


@pytest.mark.parametrize(("given", "number"), REPLIES)
def test_one_reply_for_each_prompt(given: dict[str, Any], number: int) -> None:
    """A list of prompts is answered one by one; a list of token ids is one prompt."""
    assert replies(**given) == number
