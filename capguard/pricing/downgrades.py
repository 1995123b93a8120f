"""Which cheaper sibling stands in for a model: a short list made by hand, and the rule that it is held to.

The rule: both are listed, the sibling is cheaper in input and in output, can do all that the model can, and is not
retired. Where the rule and the list disagree, the list says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from capguard.pricing.book import PriceBook, bundled
from capguard.pricing.price import Price

SIBLINGS: Mapping[str, str] = {
    "gpt-4": "gpt-4o",
    "gpt-4-turbo": "gpt-4o",
    "chatgpt-4o-latest": "gpt-4o",
    "gpt-4o": "gpt-4o-mini",
    "gpt-4.1": "gpt-4.1-mini",
    "o1": "o3",
    "gpt-5": "gpt-5-mini",
    "gpt-5-mini": "gpt-5-nano",
    "gpt-5.1": "gpt-5-mini",
    "gpt-5.2": "gpt-5-mini",
    "gpt-5.4": "gpt-5.4-mini",
    "gpt-5.4-mini": "gpt-5.4-nano",
    "claude-opus-4": "claude-sonnet-4",
    "claude-opus-4-1": "claude-sonnet-4",
    "claude-sonnet-4": "claude-haiku-4-5",
    "claude-opus-4-5": "claude-sonnet-4-5",
    "claude-opus-4-6": "claude-sonnet-4-6",
    "claude-opus-4-7": "claude-sonnet-4-6",
    "claude-sonnet-4-5": "claude-haiku-4-5",
    "claude-opus-5": "claude-sonnet-5",
    "claude-sonnet-5": "claude-haiku-5-5",
    "gemini-2.5-pro": "gemini-2.5-flash",
    "gemini/gemini-2.5-pro": "gemini/gemini-2.5-flash",
    "gemini/gemini-2.5-flash": "gemini/gemini-2.5-flash-lite",
    "mistral/mistral-large-latest": "mistral/mistral-small-latest",
    "mistral/mistral-medium-latest": "mistral/mistral-small-latest",
    "deepseek/deepseek-v4-pro": "deepseek/deepseek-v4-flash",
    "xai/grok-4": "xai/grok-4-fast-reasoning",
    "command-r-plus": "command-r",
    "amazon.nova-pro-v1:0": "amazon.nova-lite-v1:0",
    "groq/openai/gpt-oss-120b": "groq/openai/gpt-oss-20b",
    "groq/llama-3.3-70b-versatile": "groq/llama-3.1-8b-instant",
}

PARDONED: Mapping[str, str] = {
    "gemini-2.5-pro": "Vertex's end and flags; the gemini/ rows have neither fault",
}

_SOFT = {"caching"}
"""What a model may lack without failing a call."""


class Edge(NamedTuple):
    """One downgrade, and what the rule finds about it; `pardon` says why it stands all the same."""

    model: str
    sibling: str
    findings: tuple[str, ...]
    pardon: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**self._asdict(), "findings": list(self.findings)}


def table() -> dict[str, str]:
    """The list as a policy's `[downgrade]` has it: a name, and the same with a date behind."""
    dated = {f"{model}-20*": sibling for model, sibling in SIBLINGS.items() if "-20" not in model}
    return {**dated, **SIBLINGS}


def edges(book: PriceBook | None = None) -> Iterator[Edge]:
    """The whole list, held to the rule by the prices of `book`, the bundled one if not said."""
    prices = bundled() if book is None else book
    for model, sibling in SIBLINGS.items():
        yield Edge(model, sibling, tuple(findings(prices, model, sibling)), PARDONED.get(model))


def findings(book: PriceBook, model: str, sibling: str) -> Iterator[str]:
    """What is wrong with a downgrade."""
    asked, cheaper = book.find(model), book.find(sibling)
    if asked is None or cheaper is None:
        yield f"{sibling if asked else model} is not listed"
        return
    if not (cheaper.input < asked.input and cheaper.output < asked.output):
        yield "not cheaper in input and in output"
    if lost := sorted(asked.features - cheaper.features - _SOFT):
        yield f"lacks {', '.join(lost)}"
    if _ended(cheaper, book):
        yield f"retired on {cheaper.retires}"


def _ended(price: Price, book: PriceBook) -> bool:
    return price.retires is not None and price.retires <= book.today.isoformat()
