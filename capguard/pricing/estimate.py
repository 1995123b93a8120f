"""What a call will use, before it is made: a bound to hold and an expectation to book where nothing else is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from capguard.ledger.money import MAX_AMOUNT
from capguard.pricing.price import Price
from capguard.pricing.prompt import Prompt
from capguard.pricing.tokens import How
from capguard.pricing.usage import Usage

DEFAULT_OUTPUT = 4_096
"""Tokens that are held for a reply whose length nobody limited and nothing is known about."""

SECONDS = 600
"""Seconds of sound that are held for a transcription or a video that does not say its length."""

HowOutput = Literal["limit", "default", "history", "share"]


class Output(NamedTuple):
    """The output of one choice, in tokens, and how it was found: by the caller's `limit`, the policy's `default`, the
    `history` of such calls; `share`: as much as one call may hold of a cap.
    """

    held: int
    expected: int
    how: HowOutput = "default"


@dataclass(frozen=True, slots=True)
class Estimate:
    """`held` is a bound as far as known, `expected` the likely usage; how the input and the output were found."""

    held: Usage
    expected: Usage
    how: How
    how_output: HowOutput = "default"


def estimate(
    price: Price,
    model: str,
    *,
    max_tokens: int | None = None,
    n: int | None = None,
    default_output: int = DEFAULT_OUTPUT,
    service: str | None = None,
    **given: Any,
) -> Estimate:
    """The usage of a call that is about to be made, its input counted; `given` is what `Prompt` takes.

    The output is `max_tokens`, or `default_output` where the caller set none; never more than the model's maximum,
    where that is known; times `n` and the number of prompts. Raises ValueError for a `max_tokens`, `n` or
    `default_output` that is not an int of 0 or more (`n`: 1 or more).
    """
    choices = 1 if n is None else checked("n", n, least=1)
    default = checked("default_output", default_output)
    output = output_of(price, None if max_tokens is None else checked("max_tokens", max_tokens), default)
    return estimated(price, model, Prompt(**given), output, n=choices, service=service)


def estimated(
    price: Price,
    model: str,
    prompt: Prompt,
    output: Output,
    *,
    n: int = 1,
    service: str | None = None,
    bound: bool = False,
) -> Estimate:
    """The usage of a call, its input counted, or by its `bound` without reading it.

    Embeddings have no output, nor have images that are sold by the piece. What is held is at the dearest rates that may
    apply: as if the input were written to a cache where that is dearer, for an hour where the prompt asks for that, and
    the output were reasoning. What is drawn is at the rate of images.
    """
    counted = prompt.bound(model) if bound else prompt.count(model)
    choices = 0 if _writes_nothing(price, prompt) else n * prompt.replies
    held, expected = (min(tokens * choices, MAX_AMOUNT) for tokens in (output.held, output.expected))
    writes = counted.upper if price.cache_write > price.input else 0
    said: dict[str, Any] = {"model": model, "quantities": _pieces(price, prompt, n), "service": service}
    at_most = Usage(
        input_tokens=counted.upper,
        cache_write_tokens=writes,
        cache_write_1h_tokens=writes if prompt.content.for_an_hour else 0,
        output_tokens=held,
        reasoning_tokens=held if price.dearest_output > price.output and not prompt.draws else 0,
        image_output_tokens=held if prompt.draws else 0,
        **said,
    )
    drawn = expected if prompt.draws else 0
    likely = Usage(input_tokens=counted.tokens, output_tokens=expected, image_output_tokens=drawn, **said)
    return Estimate(at_most, likely, counted.how, output.how)


def output_of(price: Price, limit: int | None, default: int) -> Output:
    """The output of one choice: the caller's limit, else the default, within the model's maximum."""
    wanted = default if limit is None else limit
    tokens = wanted if price.max_output is None else min(wanted, price.max_output)
    return Output(tokens, tokens, "default" if limit is None else "limit")


def _writes_nothing(price: Price, prompt: Prompt) -> bool:
    """Embeddings, and images that are sold by the piece. A free price has no rates to tell by."""
    if price.mode in ("embedding", "rerank") or (prompt.draws and price.sells_images):
        return True
    return prompt.input is not None and price.input > 0 and not price.output


def _pieces(price: Price, prompt: Prompt, n: int) -> dict[str, int]:
    """What has a fee: images that are drawn, queries, characters that are spoken, searches of tools, and seconds of
    sound, of which the prompt says nothing.
    """
    drawn = {"images": n} if prompt.draws else {}
    fees = price.fees
    if not fees:
        return drawn
    expected = {
        "images": n if price.mode in ("image_generation", "image_edit") else 0,
        "queries": 1 if price.mode in ("rerank", "search") else 0,
        "pages": 1 if price.mode == "ocr" else 0,
        "characters": prompt.characters if price.mode == "audio_speech" else 0,
        "seconds": SECONDS if price.mode in ("audio_transcription", "video_generation") else 0,
        "searches": prompt.searches,
    }
    return {piece: count for piece, count in expected.items() if count and piece in fees} | drawn


def checked(name: str, value: object, least: int = 0) -> int:
    """`value` if it is an int from `least` to 2^53-1; else ValueError."""
    if type(value) is not int or not least <= value <= MAX_AMOUNT:
        raise ValueError(f"{name}: {value!r:.60} is refused; allowed: an int from {least} to 2^53-1")
    return value
