"""What a call sends, read once: bounds of its size at once, its tokens when somebody needs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from capguard.pricing.bounds import least_tokens
from capguard.pricing.families import family_of
from capguard.pricing.messages import Content, content_of, replies
from capguard.pricing.tokens import Count, bound_texts, count_texts

PER_SEARCH_TOOL = 5
"""Searches that are held for a web search tool that does not say how many it may make at most."""


class Prompt:
    """The prompt of one call in any form that the SDKs of OpenAI and Anthropic and LangChain take.

    Texts count as tokens, plus 3 per message, 1 per name and 3 that prime the reply. Images, sound and files count by
    stated rules and are never fetched; see images.py and messages.py. `draws`: images are asked for, no text.
    """

    def __init__(
        self,
        *,
        messages: Any = None,
        prompt: Any = None,
        input: Any = None,
        tools: Any = None,
        system: Any = None,
        draws: bool = False,
    ):
        self._texts = {"messages": messages, "prompt": prompt, "input": input, "system": system}
        self.tools = tools
        self.input = input
        self.draws = draws
        self._content: Content | None = None
        self._replies: int | None = None
        self._counts: dict[str | None, Count] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to send."""
        return self.tools is not None or any(value is not None for value in self._texts.values())

    @property
    def content(self) -> Content:
        """The texts, and what counts without being text."""
        if self._content is None:
            self._content = content_of(tools=self.tools, **self._texts)
        return self._content

    @property
    def replies(self) -> int:
        """How many replies it asks for: one for each prompt of a list."""
        if self._replies is None:
            self._replies = replies(messages=self._texts["messages"], prompt=self._texts["prompt"])
        return self._replies

    @property
    def characters(self) -> int:
        """The length of its texts."""
        return sum(map(len, self.content.texts))

    def bound(self, model: str | None) -> Count:
        """What the input will not exceed, as far as known, whatever its length, without reading it."""
        return self._with_rest(bound_texts(self.content.texts, model), model)

    @property
    def least(self) -> int:
        """Input tokens that it will have in any case."""
        return sum(map(least_tokens, self.content.texts))

    def count(self, model: str | None) -> Count:
        """The input tokens for `model`, counted once."""
        found = self._counts.get(model)
        if found is None:
            found = self._counts[model] = self._with_rest(count_texts(self.content.texts, model), model)
        return found

    @property
    def searches(self) -> int:
        """Web searches that its tools may make, as far as they say it."""
        return sum(most for tool in self._search_tools() if type(most := tool.get("max_uses", PER_SEARCH_TOOL)) is int)

    def _search_tools(self) -> Iterator[dict[str, Any]]:
        for tool in self.tools if isinstance(self.tools, (list, tuple)) else ():
            if isinstance(tool, dict) and str(tool.get("type", "")).startswith("web_search"):
                yield tool

    def _flat(self, model: str | None) -> int:
        family, content = family_of(model), self.content
        images = sum(family.images.tokens(picture) for picture in content.images)
        return images + content.blobs + (family.tools if content.tools else 0)

    def _with_rest(self, texts: Count, model: str | None) -> Count:
        """And what is not text, which is a guess."""
        flat = self._flat(model)
        fixed = self.content.overhead + flat
        how = "factor" if flat and texts.how == "exact" else texts.how
        return Count(texts.tokens + fixed, texts.upper + fixed, how)


def count_input(model: str | None, **given: Any) -> Count:
    """The input tokens of a call: `messages`, `prompt`, `input`, `tools` and `system` as `Prompt` takes them."""
    return Prompt(**given).count(model)
