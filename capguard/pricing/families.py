"""Which tokenizer a model has, its own one or a factor on OpenAI's o200k, and what it adds for images and tools."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from capguard.pricing.images import Area, Flat, ImageRule, Patches, Squares, Tiles
from capguard.pricing.names import bare
from capguard.pricing.vocabulary import CL100K, O200K, Vocabulary

_TOOL_PROMPT = 530
"""Anthropic's system prompt for tools, at most (docs.anthropic.com, tool use pricing: 159 to 530)."""


@dataclass(frozen=True, slots=True)
class Family:
    """`percent` of the vocabulary's tokens; `exact` where the vocabulary is the model's own.

    `images` says what an image counts, `tools` what the provider adds where tools are given.
    """

    vocabulary: Vocabulary
    percent: int = 100
    exact: bool = False
    images: ImageRule = Tiles(85, 170)  # noqa: RUF009 - frozen
    tools: int = 0


_OLD_CLAUDE = (
    r"claude-(?:instant|v?[123](?!\d)|4-|(?:opus|sonnet|haiku)-4(?:$|@|:|-latest|-v\d|-\d{6,8}|[-.][0-6](?!\d)))"
)

_FAMILIES = (
    (r"gpt-4o-mini", Family(O200K, exact=True, images=Tiles(2_833, 5_667))),
    (r"(?:gpt-4\.1|gpt-5(?:\.\d)?)-nano", Family(O200K, exact=True, images=Patches(246))),
    (r"o4-mini", Family(O200K, exact=True, images=Patches(172))),
    (r"(?:gpt-4\.1|gpt-5(?:\.\d)?)-mini", Family(O200K, exact=True, images=Patches(162))),
    (r"(?:gpt-4o|gpt-4\.[15]|chatgpt-4o|gpt-5|gpt-oss|o[134](?:-|$))", Family(O200K, exact=True)),
    (r"(?:gpt-4(?:-|$)|gpt-3\.5|gpt-35|text-embedding-(?:ada|3)|davinci-002|babbage-002)", Family(CL100K, exact=True)),
    (_OLD_CLAUDE, Family(O200K, 150, images=Area(1_600), tools=_TOOL_PROMPT)),
    (r"claude", Family(O200K, 190, images=Area(5_000), tools=_TOOL_PROMPT)),
    (r"(?:gemini|gemma|learnlm)", Family(O200K, 120, images=Squares(1_600))),
    (
        r"(?:open-)?(?:mistral|mixtral|ministral|magistral|codestral|devstral|pixtral)",
        Family(O200K, 130, images=Flat(1_600)),
    ),
)
_OTHERS = Family(O200K, 150, images=Flat(6_404))


@lru_cache(1024)
def family_of(model: str | None) -> Family:
    """The family of `model`, by its name; unknown names are counted at 1.5 times o200k.

    Sources: tiktoken/model.py for OpenAI. Claude up to 4.6: 1.49 was measured on Sonnet 4.5; newer ones use about 30%
    more (Anthropic's documentation). Mistral: measured, 1.06 to 1.42 on code and prose. Gemini and others: judgement.
    Images: 85 + 170 per tile for OpenAI, 2,833 + 5,667 for gpt-4o-mini; patches at 1.62, 1.72 or 2.46 for its small
    models; at most 3.75 megapixels at 750 per token for the newest Claude; 4 tiles of 1,601 for Llama at Together.
    """
    name = bare(model[:256]) if model else ""
    return next((family for pattern, family in _FAMILIES if re.match(pattern, name)), _OTHERS)
