"""What went wrong with estimates, prices, tokens, streams and retries in systems like this one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import openai
import pytest

from capguard import CapExceeded, CapguardError, Usage, capped
from capguard.testing import ManualClock
from capguard.testing.provider import Served
from tests.kit import CALL, MESSAGES, last
from tests.promises.kit import ASK, Opened, cap, caps, listen, meters, refusing, spend, state

# estimates


@pytest.mark.parametrize(
    ("call", "held"),
    [
        ({"model": "unheard-of", "prompt": "x", "max_tokens": 100}, "0.007515"),
        ({"prompt": "x", "max_tokens": 100}, "0.007515"),
        ({"model": "unheard-of", "prompt": "x"}, "0.076815"),
    ],
    ids=["a model nobody knows", "no model", "no limit either"],
)
def test_row_11_a_cost_that_cannot_be_estimated(opened: Opened, call: dict[str, Any], held: str) -> None:
    """litellm #35524: no estimate, no hold, no bound. Here an unknown price is the ceiling, an unknown length the
    default of the policy: something is always held."""
    guard = opened(caps(cap()))
    assert guard.reserve(user="u1", **call).held == Decimal(held)


def test_row_12_a_call_without_a_limit_pins_all_headroom(opened: Opened) -> None:
    """litellm #27509: no max_tokens pinned all headroom, and a cap of $2,000 blocked at $0.144 spent. Here such a call
    holds a default output: a hundred of them at once are a few dollars."""
    guard = opened({"caps": [cap(limit=2000)]})
    spend(guard, "0.144")
    for _ in range(100):
        guard.reserve(user="u1", model="gpt-4o", messages=MESSAGES)
    assert state(guard).held < 10


def test_row_12_a_hostile_limit(opened: Opened) -> None:
    """litellm #27509, likewise: a max_tokens beyond all measure. Here it is held at the model's own maximum, and a
    clamp lets one call hold half of a cap at most."""
    hostile = {"user": "u1", "model": "gpt-4o", "prompt": "x", "max_tokens": 2**31 - 1}
    assert opened({"caps": [cap(limit=2000)]}).reserve(**hostile).held < Decimal("0.17")  # 16,384 at $10 per million
    guard = opened({"caps": [cap("clamp", "0.1", action="clamp")]})
    reservation = guard.reserve(**hostile)
    assert reservation.held <= Decimal("0.05")
    assert 4900 < reservation.params["max_tokens"] <= 5000


@pytest.mark.parametrize(
    ("model", "cost"), [("gemini-2.5-pro", "0.765"), ("gpt-5.4", "1.5225")], ids=["200k tier", "272k tier"]
)
def test_row_14_a_hold_that_ignores_the_dearer_tiers(opened: Opened, model: str, cost: str) -> None:
    """litellm PR #40002: holds ignored the prices above 272k tokens: $0.60 spent under a cap of $0.45. Here a hold and
    a settle go by the same tier: 300,000 tokens in, 1,000 out, at $2.50 and $15 (gemini), $5 and $22.50 (gpt-5.4)."""
    guard = opened({"caps": [cap()]})
    usage = Usage(model=model, input_tokens=300_000, output_tokens=1_000)
    reservation = guard.reserve(user="u1", model=model, usage=usage)
    assert guard.settle(reservation, usage=usage).cost == reservation.held == Decimal(cost)


# streams and what is unmetered


def test_row_30_embeddings_are_metered(opened: Opened, fake: Served, oai: openai.OpenAI) -> None:
    """litellm #12794, #13882, #36646: embeddings went unmetered. Here they are held by their input and booked by what
    the provider reports."""
    fake.provider.set(input_tokens=500)
    guard = opened(caps(cap()))
    texts = ["one text", "another text"]
    with guard.call(user="u1", model="embed", input=texts) as call:
        assert state(guard).held > 0
        call.settle(oai.embeddings.create(input=texts, **call.params))
    assert (last(guard).amounts["input_tokens"], last(guard).amounts["output_tokens"]) == (500, 0)
    assert state(guard).settled == Decimal("0.0005")


def test_row_31_streams_record_nothing(opened: Opened, fake: Served, oai: openai.OpenAI) -> None:
    """litellm #37923, #40100; langchain-litellm #20, #201; LangChain #4583, #16182: streams recorded 0 tokens, EUR 830
    real against $1.47. Here what passed is counted where nothing is reported, and flagged; never nothing."""
    fake.provider.set(output_tokens=80)
    guard = opened(caps(cap()))
    with guard.call(**CALL) as call:
        list(call.stream(oai.chat.completions.create(messages=MESSAGES, stream=True, **call.params)))
    assert last(guard).flags == ("counted",)
    assert last(guard).amounts["output_tokens"] >= 80
    assert last(guard).amounts["input_tokens"] > 0


def chunks(*words: str) -> Iterator[dict[str, Any]]:
    for word in words:
        yield {"model": "big", "choices": [{"index": 0, "delta": {"content": word}}]}


async def achunks(*words: str) -> AsyncIterator[dict[str, Any]]:
    for chunk in chunks(*words):
        await asyncio.sleep(0)
        yield chunk


@pytest.mark.parametrize("how", ["closed", "dropped", "an error", "cancelled"])
async def test_row_34_a_client_that_leaves(opened: Opened, how: str) -> None:
    """litellm #14457, #13245, #34147, PR #33736, #30630, #36008: the client left in mid-stream, the usage was lost and
    the provider billed all. Here what was seen is booked, at least the input, flagged as not certain."""
    guard = opened(caps(cap()))
    if how == "cancelled":
        with suppress(asyncio.CancelledError):
            async with guard.call(**ASK) as acall:
                async for _ in acall.stream(achunks("one two three four", "five")):
                    raise asyncio.CancelledError
    elif how == "an error":
        with suppress(BrokenPipeError), guard.call(**ASK) as call:
            for _ in call.stream(chunks("one two three four", "five")):
                raise BrokenPipeError
    else:
        with guard.call(**ASK) as call:
            stream = call.stream(chunks("one two three four", "five"))
            next(stream)
            stream.close() if how == "closed" else None
            del stream
        del call
    assert set(last(guard).flags) == {"counted", "uncertain"}
    seen = last(guard).amounts
    assert (seen["input_tokens"], seen["output_tokens"] >= 4) == (1, True)
    assert meters(guard)["c"] == (last(guard).cost, 0)


# per million: gpt-4o 2.50, cached 1.25, out 10; claude-sonnet-4 3, read 0.30, written 3.75, out 15
CACHED: dict[str, tuple[dict[str, Any], str]] = {
    "OpenAI: the input includes the cache": (
        {"model": "gpt-4o", "usage": {
            "prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 800}}},
        "0.0025",  # 200 * 2.50 + 800 * 1.25 + 100 * 10, per million
    ),
    "OpenAI responses": (
        {"model": "gpt-4o", "usage": {
            "input_tokens": 1000, "output_tokens": 100, "input_tokens_details": {"cached_tokens": 800}}},
        "0.0025",
    ),
    "Anthropic: the input excludes the cache": (
        {"model": "claude-sonnet-4", "usage": {
            "input_tokens": 200, "output_tokens": 100, "cache_read_input_tokens": 800,
            "cache_creation_input_tokens": 1000}},
        "0.00609",  # 200 * 3 + 800 * 0.30 + 1000 * 3.75 + 100 * 15
    ),
    "a host that counts the cache beside the prompt": (
        {"model": "gpt-4o", "usage": {
            "prompt_tokens": 200, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 800}}},
        "0.0025",
    ),
    "LangChain": (
        {"response_metadata": {"model_name": "gpt-4o"}, "usage_metadata": {
            "input_tokens": 1000, "output_tokens": 100, "input_token_details": {"cache_read": 800}}},
        "0.0025",
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", CACHED)
def test_row_32_cached_tokens_are_counted_once(opened: Opened, shape: str) -> None:
    """litellm #11789, #9812, #11364; langfuse #5568, #10592, #12306; bifrost #904, #3451: cached tokens were counted
    twice or at the wrong price. Here each provider's words are read in one meaning: uncached plus cached, once."""
    reply, cost = CACHED[shape]
    guard = opened({"caps": [cap()]})
    model = "claude-sonnet-4" if shape.startswith("Anthropic") else "gpt-4o"
    with guard.call(user="u1", model=model, prompt="x") as call:
        call.settle(reply)
    assert state(guard).settled == Decimal(cost)


def test_row_74_a_unit_that_is_not_reported(opened: Opened) -> None:
    """agentgateway's documents: a unit that the reply does not report is not charged. Here a reply without usage books
    what was expected in every unit, and says so."""
    guard = opened(caps(cap(), cap("tokens", 500, unit="tokens")))
    with guard.call(**ASK) as call:
        call.settle({"model": "big", "choices": []})
    assert meters(guard) == {"c": (Decimal("0.00201"), 0), "tokens": (101, 0)}
    assert last(guard).flags == ("uncertain", "no_usage")


# prices


@pytest.mark.parametrize("model", ["gpt-4o-of-tomorrow", "some-host/some-model", "claude-foo-9"])
def test_row_35_an_unknown_model_costs_nothing(opened: Opened, model: str) -> None:
    """litellm PR #30715, PR #36561, PR #35914: 365 calls of an unknown model were booked at $1.16 and cost $185. Here
    they are held and charged at the ceiling of the policy, flagged."""
    guard = opened(caps(cap(limit=50)))
    for _ in range(3):
        with guard.call(user="u1", model=model, prompt="x", max_tokens=1000) as call:
            call.settle(usage=Usage(model=model, input_tokens=30_000, output_tokens=1_000))
        assert (last(guard).cost, last(guard).flags) == (Decimal("0.525"), ("ceiling",))


def test_row_36_an_unknown_model_priced_as_another(opened: Opened) -> None:
    """headroom #3732: what was unknown got the price of gpt-4o. Here no price is borrowed from a model that looks
    alike: the entry names the ceiling as its origin."""
    guard = opened({"caps": [cap()]})
    guard.reserve(user="u1", model="gpt-4o-superb", prompt="x", max_tokens=1)
    assert last(guard).body["rates"]["price"]["origin"] == "ceiling"
    assert last(guard).cost != opened({"caps": [cap()]}).reserve(**{**ASK, "model": "gpt-4o", "max_tokens": 1}).held


@pytest.mark.parametrize(
    "name", ["gpt-4o-2024-08-06", "gpt-4o-2099-01-01", "openai/gpt-4o", "azure/gpt-4o", "GPT-4o", "gpt-4o-latest"]
)
def test_row_51_dated_names_cost_nothing(opened: Opened, name: str) -> None:
    """LangChain #6193, #30795: total_cost was 0 for names with a date or a host. Here they are found under the bare
    name: 1,000 in and 1,000 out of gpt-4o are $0.0125."""
    guard = opened({"caps": [cap()]})
    with guard.call(user="u1", model=name, prompt="x") as call:
        call.settle(usage=Usage(input_tokens=1000, output_tokens=1000))
    assert (last(guard).cost, last(guard).flags) == (Decimal("0.0125"), ())


def test_row_52_a_run_that_is_partly_unpriced(opened: Opened) -> None:
    """pydantic-ai #7133: steps without a price were left out of a run's cost without a sign. Here each is flagged and
    told, its tokens count, and a cap in tokens still ends the run."""
    run = {"per": ["session"], "window": "lifetime", "idle": "1h"}
    policy = caps(cap("cost", 1, **run), cap("tokens", 2500, unit="tokens", **run), failure={"unknown_model": "allow"})
    guard = opened(policy)
    unpriced = listen(guard, "unpriced")
    for model in ("big", "unheard-of"):
        with guard.call(user="u1", session="run", model=model, prompt="x", max_tokens=1000) as call:
            call.settle(usage=Usage(input_tokens=100, output_tokens=900))
    assert state(guard, "cost", session="run", user="u1").settled == Decimal("0.019")
    assert {event.model for event in unpriced} == {"unheard-of"}
    assert refusing(guard, **{**ASK, "session": "run", "model": "unheard-of", "max_tokens": 900}) == ["tokens"]


# retries, caches, wrappers


def test_row_45_a_cache_hit_is_charged(opened: Opened) -> None:
    """litellm #1783, #14749, #39057, PR #39960; langfuse #2112: hits of a cache were charged, or a guardrail's call
    before one was not. Here a hit is settled at nothing, and the call that was made inside is booked."""
    guard = opened(caps(cap()))
    with guard.call(**ASK) as call:
        call.settle(cost=0)
        with guard.call(**{**ASK, "model": "small"}) as guardrail:
            guardrail.settle(usage=Usage(input_tokens=1000))
    booked = sorted(entry.cost for entry in guard.entries() if entry.kind == "settle")
    assert booked == [0, Decimal("0.001")]
    assert state(guard).settled == Decimal("0.001")


def test_row_46_retries_and_fallbacks(opened: Opened, fake: Served, oai: openai.OpenAI) -> None:
    """litellm #39455, PR #39294, #15740: attempts were counted N times, or all at the price of one. Here an attempt
    that failed is released, and each that was billed is one entry under its own id, at its own model's price."""
    fake.provider.set(input_tokens=1000, output_tokens=0)
    guard = opened(caps(cap()))

    def attempt(model: str, status: int | None = None) -> None:
        fake.provider.set(fail_status=status)
        with suppress(openai.APIStatusError), guard.call(**{**CALL, "model": model}) as call:
            call.settle(oai.chat.completions.create(messages=MESSAGES, **call.params))

    attempt("big", 429)
    attempt("big", 500)
    attempt("big")
    attempt("small")
    entries = list(guard.entries())
    assert [entry.model for entry in entries if entry.kind == "reserve"] == ["big", "big", "big", "small"]
    assert [(entry.kind, entry.cost) for entry in entries if entry.kind != "reserve"] == [
        ("release", 0), ("release", 0), ("settle", Decimal("0.01")), ("settle", Decimal("0.001")),
    ]  # fmt: skip
    assert (len({entry.id for entry in entries}), state(guard).settled) == (4, Decimal("0.011"))


@pytest.mark.parametrize("kind", ["call", "capped", "generator"])
def test_row_50_a_block_that_has_no_effect(opened: Opened, fake: Served, oai: openai.OpenAI, kind: str) -> None:
    """LangChain #8051, riskkernel PR #55: exceptions of callbacks were swallowed and the blocked call was made. Here
    nothing reaches the provider, whichever way the call is guarded."""
    guard = opened(caps(cap(limit=0)))

    def ask() -> Any:
        return oai.chat.completions.create(model="big", messages=MESSAGES)

    @capped(guard, user="user")
    def answer(user: str, model: str = "big", prompt: str = "x") -> Any:
        return ask()

    @capped(guard, user="user")
    def stream(user: str, model: str = "big", prompt: str = "x") -> Any:
        yield ask()

    def block() -> Any:
        with guard.call(**CALL):
            return ask()

    ways = {"call": block, "capped": lambda: answer("u1"), "generator": lambda: next(stream("u1"))}
    with pytest.raises(CapExceeded):
        ways[kind]()
    assert fake.provider.calls == 0


@pytest.mark.parametrize("error", [ValueError("bad json"), TimeoutError("slow parser"), CapguardError("late")])
def test_row_53_a_wrapper_that_raises_after_the_reply(opened: Opened, error: Exception) -> None:
    """pydantic harness PR #538: a wrapper raised after the response, and the billed call was lost. Here what `settle`
    recorded is booked, whatever follows."""
    guard = opened(caps(cap()))
    with pytest.raises(type(error)), guard.call(**ASK) as call:  # noqa: PT012 - the block is what is tested
        call.settle(usage=Usage(input_tokens=1000))
        raise error
    assert (meters(guard), last(guard).flags) == ({"c": (Decimal("0.01"), 0)}, ())


# tokens

TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look something up in the catalogue of all the things that there are. " * 20,
        "parameters": {"type": "object", "properties": {f"field_{n}": {"type": "string"} for n in range(40)}},
    },
}
SYSTEM = {"role": "system", "content": "You are a helpful librarian. " * 100}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}


@pytest.mark.parametrize(
    ("more", "at_least"),
    [({"tools": [TOOL]}, 400), ({"messages": [SYSTEM, *MESSAGES]}, 600), ({"messages": [IMAGE, *MESSAGES]}, 700)],
    ids=["tools", "system", "images"],
)
def test_row_55_tools_images_and_the_system_prompt_count(opened: Opened, more: dict[str, Any], at_least: int) -> None:
    """tiktoken #474; cookbook #1467, #916: only the messages were counted, 47k where 140k were billed. Here tools,
    system and images are part of what is held."""
    guard = opened(caps(cap(limit=99)))
    guard.reserve(**CALL)
    plain = last(guard).amounts["input_tokens"]
    guard.reserve(**{**CALL, **more})
    assert last(guard).amounts["input_tokens"] - plain > at_least


@pytest.mark.parametrize(
    "text",
    ["a" * 1_000_000, "^" * 500_000, " " * 500_000, "ab" * 300_000, "\U0001f600" * 100_000],
    ids=["a", "carets", "blanks", "pairs", "emoji"],
)
def test_row_56_repeated_characters(opened: Opened, text: str) -> None:
    """tiktoken #195, n8n PR #16769: repeated characters made the encoding quadratic, a million of them took minutes.
    Here texts are counted in pieces; more bytes than tokens are never held."""
    guard = opened(caps(cap(limit=99), cap("n", 9, unit="requests")))
    guard.reserve(user="u1", model="gpt-4o", prompt=text, max_tokens=1)
    assert 0 < last(guard).amounts["input_tokens"] <= len(text.encode())


@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-4", "unheard-of", "ft:gpt-4o:acme::1"])
@pytest.mark.parametrize("text", ["<|endoftext|>", "\ud800", "\x00", "नमस्ते", ""], ids=ascii)
def test_row_57_what_breaks_a_tokenizer(opened: Opened, model: str, text: str) -> None:
    """tiktoken #367, #363, #513, #369, #317, #245: KeyError for unknown models, a download without a network, a panic
    on odd text. Here a model without a vocabulary is counted by a factor, and no text raises."""
    guard = opened(caps(cap(limit=99)))
    reservation = guard.reserve(user="u1", model=model, messages=[{"role": "user", "content": text}], max_tokens=1)
    assert 0 < last(guard).amounts["input_tokens"] < 100
    assert reservation.held > 0


def test_row_57_counting_needs_no_network(opened: Opened, monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    """The same, where every use of a socket fails."""
    import socket

    def offline(*_: Any, **__: Any) -> Any:
        raise OSError("there is no network here")

    monkeypatch.setattr(socket, "socket", offline)
    guard = opened(caps(cap(limit=99)))
    for model in ("gpt-4o", "o3", "gpt-3.5-turbo", "unheard-of"):
        assert guard.reserve(user="u1", model=model, messages=MESSAGES).held > 0
