"""Bounds without reading: no text undercounts them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capguard.pricing import seen, tokens
from capguard.pricing.bounds import LONGEST_TOKEN, least_tokens, most_bytes
from capguard.pricing.prompt import Prompt
from capguard.pricing.tokens import bound_texts, count_text
from capguard.pricing.vocabulary import CL100K, O200K, Vocabulary, encoding

MODELS = ["gpt-4o", "gpt-4", "claude-opus-4-7", "gemini-2.5-pro", "mistral-large", "who-knows"]
TEXTS = st.one_of(
    st.text(max_size=400),
    st.text(alphabet="abcdefg \n.,", max_size=600),
    st.text(alphabet="éàüß", max_size=200),
    st.text(alphabet="我们在这里", max_size=200),
    st.text(alphabet="\U0001f600\U0001f1eb", max_size=100),
    st.text(alphabet=st.characters(categories=["Cs", "Cc"]), max_size=50),
)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.sampled_from(MODELS))
def test_no_text_undercounts_its_bound(text: str, model: str):
    """Least <= counted <= most, for every model and script, half surrogate pairs among them."""
    counted, bound = count_text(text, model), bound_texts([text], model)
    assert least_tokens(text) <= counted.upper <= bound.upper
    assert bound.tokens <= bound.upper


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_bytes_are_bounded_without_encoding(text: str):
    """Also when the text carries a copy of itself in UTF-8."""
    real = len(text.encode("utf-8", "surrogatepass"))
    assert real <= most_bytes(text) <= 4 * len(text)
    if text.isascii():
        assert most_bytes(text) == real


@pytest.mark.parametrize("vocabulary", [O200K, CL100K], ids=lambda each: each.name)
def test_no_token_is_longer(vocabulary: Vocabulary):
    """The least is right for every text: the longest token of the vocabularies has 128 bytes."""
    encoder = encoding(vocabulary)
    assert encoder is not None
    assert max(map(len, encoder.token_byte_values())) == LONGEST_TOKEN


PROMPTS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "你好" * 900}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]},
    {"prompt": ["one", "two"], "tools": [{"type": "function", "function": {"name": "look"}}]},
    {"input": [[1, 2, 3], [4]], "system": "be kind"},
    {},
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("given", PROMPTS, ids=lambda given: "+".join(given) or "nothing")
def test_whole_prompts(given: dict[str, Any], model: str):
    """With all that counts without being text."""
    prompt = Prompt(**given)
    assert prompt.least <= prompt.count(model).upper <= prompt.bound(model).upper


def test_a_bound_reads_nothing(monkeypatch: pytest.MonkeyPatch):
    """Neither encoder nor hash is asked."""
    monkeypatch.setattr(tokens, "encoding", None)
    monkeypatch.setattr(seen, "key_of", None)
    assert Prompt(prompt="a" * 10**6).bound("gpt-4o").upper == 10**6


def test_a_resent_chat_is_counted_once(monkeypatch: pytest.MonkeyPatch):
    """Its history is known by its hash; only the new message is encoded. No text is kept."""
    encoded: list[int] = []
    real = tokens._in_pieces
    monkeypatch.setattr(tokens, "_seen", seen.Seen())
    monkeypatch.setattr(tokens, "_in_pieces", lambda text, *rest: encoded.append(len(text)) or real(text, *rest))
    history = [{"role": "user", "content": f"{turn} " * 400} for turn in range(10)]
    first = Prompt(messages=history).count("gpt-4o")
    assert len(encoded) == 10
    again = Prompt(messages=[{**each} for each in history] + [{"role": "user", "content": "new " * 100}]).count(
        "gpt-4o"
    )
    assert encoded[10:] == [400]
    assert again.tokens > first.tokens
    assert Prompt(messages=history).count("claude-opus-4-7").how == "factor"
    assert len(encoded) == 11
    assert all(isinstance(key[1], bytes) and len(key[1]) == 32 for key in tokens._seen._young)


def test_what_was_seen_takes_a_bounded_memory():
    """Two generations; what is asked for stays."""
    cache = seen.Seen()
    cache.put(("v", b"kept"), (1, 0))
    for number in range(3 * seen.GENERATION):
        cache.put(("v", number.to_bytes(4)), (number, 0))
        if number % 1000 == 0:
            assert cache.find(("v", b"kept")) == (1, 0)
    assert len(cache) <= 2 * seen.GENERATION
    assert cache.find(("v", (0).to_bytes(4))) is None
