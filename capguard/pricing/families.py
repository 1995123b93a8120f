"""Which tokenizer a model has, its own one or a factor on OpenAI's o200k, and what it adds for images and tools."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from capguard.pricing.names import bare
from capguard.pricing.vocabulary import CL100K, O200K, Vocabulary

IMAGE_TOKENS = 1_600
"""Anthropic documents about 1,600 for a large image; OpenAI's 85 + 170 for each of at most 8 tiles stay below."""

_TOOL_PROMPT = 530
"""Anthropic's system prompt for tools, at most (docs.anthropic.com, tool use pricing: 159 to 530)."""


@dataclass(frozen=True, slots=True)
class Family:
    """`percent` of the vocabulary's tokens; `exact` where the vocabulary is the model's own.

    `image` is a flat bound in tokens for one image of any size; `tools` what the provider adds where tools are given.
    """

    vocabulary: Vocabulary
    percent: int = 100
    exact: bool = False
    image: int = IMAGE_TOKENS
    tools: int = 0


_OLD_CLAUDE = (
    r"claude-(?:instant|v?[123](?!\d)|4-|(?:opus|sonnet|haiku)-4(?:$|@|:|-latest|-v\d|-\d{6,8}|[-.][0-6](?!\d)))"
)

_FAMILIES = (
    (r"gpt-4o-mini", Family(O200K, exact=True, image=2_833 + 8 * 5_667)),
    (r"(?:gpt-4\.1|gpt-5(?:\.\d)?)-nano", Family(O200K, exact=True, image=3_779)),
    (r"(?:gpt-4\.1|gpt-5(?:\.\d)?|o4)-mini", Family(O200K, exact=True, image=2_489)),
    (r"(?:gpt-4o|gpt-4\.[15]|chatgpt-4o|gpt-5|gpt-oss|o[134](?:-|$))", Family(O200K, exact=True)),
    (r"(?:gpt-4(?:-|$)|gpt-3\.5|gpt-35|text-embedding-(?:ada|3)|davinci-002|babbage-002)", Family(CL100K, exact=True)),
    (_OLD_CLAUDE, Family(O200K, 150, tools=_TOOL_PROMPT)),
    (r"claude", Family(O200K, 190, image=5_000, tools=_TOOL_PROMPT)),
    (r"(?:gemini|gemma|learnlm)", Family(O200K, 120)),
    (r"(?:open-)?(?:mistral|mixtral|ministral|magistral|codestral|devstral|pixtral)", Family(O200K, 130)),
)
_OTHERS = Family(O200K, 150, image=6_404)


@lru_cache(1024)
def family_of(model: str | None) -> Family:
    """The family of `model`, by its name; unknown names are counted at 1.5 times o200k.

    Sources: tiktoken/model.py for OpenAI. Claude up to 4.6: 1.49 was measured on Sonnet 4.5; newer ones use about 30%
    more (Anthropic's documentation). Mistral: measured, 1.06 to 1.42 on code and prose. Gemini and others: judgement.
    Images: 2,833 + 5,667 per tile of gpt-4o-mini was seen in bills; 1,536 patches at 1.62 or 2.46 for OpenAI's small
    models; 3.75 megapixels at 750 per token for the newest Claude; 4 tiles of 1,601 for Llama at Together.
    """
    name = bare(model[:256]) if model else ""
    return next((family for pattern, family in _FAMILIES if re.match(pattern, name)), _OTHERS)
