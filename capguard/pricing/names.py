"""The names under which a model may be listed, from the name as given to the barest."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Hosts that sell at the maker's list price, so that the price of the bare name holds. Others (groq, together, azure_ai)
# host other makers' models at prices of their own: there, only a listed name is known.
_HOST = re.compile(
    r"^(?:(?:openai|text-completion-openai|azure|azure_text|anthropic|vertex_ai|vertex_ai_beta|gemini|google|models"
    r"|bedrock|bedrock_converse|converse|invoke|mistral|mistralai|deepseek|xai|cohere|cohere_chat|litellm_proxy)/)+"
)
_PEELS = (
    _HOST,
    re.compile(r"^(?:(?:us|eu|global|global-standard)|(?:us|eu|ap|ca|sa|me|af|il|mx)-(?:gov-)?[a-z]+-\d)/"),
    re.compile(r"^(?:us-gov|us|eu|apac|jp|au|ca|global)\."),
    re.compile(r"^anthropic\."),
    re.compile(r"-v\d+(?::\d+)?$"),
)
_VENDOR = re.compile(r"^[a-z0-9]+\.(?=[a-z])")
_DATE = re.compile(r"(?:[-@]20\d\d-?[01]\d-?[0-3]\d|[-@]latest|@default)$")
_FINE_TUNED = re.compile(r"^(ft:[^:]+):.*")

HOUSES = ("mistral/", "xai/", "deepseek/", "gemini/", "groq/", "perplexity/", "cohere/")
"""Hosts whose models the snapshot lists under their prefix, and their own SDKs name without."""


def candidates(name: str) -> Iterator[str]:
    """Lower-case names to look up, most specific first.

    The order: the name; without its host, region, vendor and revision, one after the other; each of these without a
    trailing date or `-latest`; the bare name under the host that is its only seller. A fine-tuned name keeps its `ft:`,
    because tuned models cost more than their base.
    """
    forms = _peeled(_FINE_TUNED.sub(r"\1", name.strip().lower()))
    undated = [bare for form in forms if (bare := _DATE.sub("", form)) != form]
    yield from forms
    yield from undated
    if "/" not in forms[0]:
        yield from (house + form for form in (*forms, *undated) for house in HOUSES)


def bare(name: str) -> str:
    """The lower-case name of the model itself: no host, region, vendor, `ft:` or revision; its date stays."""
    last = _peeled(name.strip().lower())[-1].rsplit("/", 1)[-1]
    return _VENDOR.sub("", last.removeprefix("ft:"))


def _peeled(name: str) -> list[str]:
    forms = [name]
    for peel in _PEELS:
        shorter = peel.sub("", forms[-1])
        if shorter and shorter != forms[-1]:
            forms.append(shorter)
    return forms
