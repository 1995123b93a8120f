"""Counting tokens: the same as tiktoken where the vocabulary is the model's own, and never below."""

from __future__ import annotations

import functools
import random
from importlib.util import find_spec
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from capguard.pricing.families import family_of
from capguard.pricing.tokens import Count, count_text, warm

VOCABULARY_FOLDER = Path(str(find_spec("litellm").submodule_search_locations[0])) / "litellm_core_utils/tokenizers"  # type: ignore[union-attr,index]
MODELS = {"o200k_base": "gpt-4o", "cl100k_base": "gpt-4"}


@functools.cache
def reference(name: str) -> tiktoken.Encoding:
    """tiktoken's own encoder, loaded from the folder that LiteLLM carries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(VOCABULARY_FOLDER))
        return tiktoken.get_encoding(name)


SENTENCE = "The quick brown fox, aged 12345, doesn't jump over 7 lazy dogs!\n\n\tif x == {'a': [1, 2]}:  pass  "
CORPORA = {
    "prose": SENTENCE * 300,
    "code": "def f(a, b):\n    return {**a, 'b': b}   # done\r\n" * 400,
    "chinese": "我们在这里测试分词器的行为。" * 900,
    "russian": "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 300,
    "hindi": "यह एक परीक्षण वाक्य है। " * 500,
    "emoji": "👩‍👩‍👧‍👦🎉 done " * 800,
    "base64": "".join(random.Random(1).choices("ABCDEFabcdef0123456789+/", k=20_000)),
    "digits": "1234567890" * 2_000,
    "one letter": "a" * 20_000,
    "blanks": " " * 20_000,
    "tabs and newlines": "\t\n \n" * 5_000,
    "long blank runs": ("word" + " " * 5_000) * 4,
    "blanks before newlines": ("end.   \n\n   " + "x" * 50) * 400,
    "punctuation and newlines": "!!!\n" * 5_000,
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("corpus", CORPORA)
def test_counts_what_tiktoken_counts(corpus: str, name: str) -> None:
    """In pieces or whole: never below, and at most 0.1% above, plus one per hard cut in `upper`."""
    text = CORPORA[corpus]
    whole = len(reference(name).encode_ordinary(text))
    count = count_text(text, MODELS[name])
    assert count.how == "exact"
    assert whole <= count.upper
    assert whole <= count.tokens <= whole + max(whole // 1000, 12)
    assert count.upper - count.tokens <= len(text.encode()) // 2_000 + 1


def test_every_hard_cut_raises_the_upper_count() -> None:
    """20,000 letters without a blank: four cuts, each of which may have changed a token."""
    count = count_text("a" * 20_000, "gpt-4o")
    assert count.upper == count.tokens + 4


SOFT = ["prose", "code", "russian", "hindi", "emoji", "long blank runs", "blanks before newlines"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("corpus", SOFT)
def test_a_cut_before_a_word_changes_nothing(corpus: str, name: str) -> None:
    """Where words end there is a token's end in any case: the count is exactly the whole one."""
    text = CORPORA[corpus] if corpus != "long blank runs" else ("word" + " " * 2_000) * 9
    assert count_text(text, MODELS[name]).tokens == len(reference(name).encode_ordinary(text))


SHORT = [
    ("", 0),
    ("hello world", 2),
    ("<|endoftext|>", 7),
    ("\ud800", 1),
    ("\ud83d\ude00", 2),
]


@pytest.mark.parametrize(("text", "tokens"), SHORT)
def test_short_and_odd_texts(text: str, tokens: int) -> None:
    """Special tokens count as text; half a surrogate pair as the replacement character; two halves as their emoji."""
    count = count_text(text, "gpt-4o")
    clean = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert count.tokens == count.upper == len(reference("o200k_base").encode_ordinary(clean))
    if text in ("", "hello world"):
        assert count.tokens == tokens


PATHOLOGICAL = {
    "a million and a half blanks": " " * 1_500_000,
    "half a million times one letter": "a" * 500_000,
    "half a million tabs": "\t" * 500_000,
    "lone surrogates": "\udc00" * 100_000,
    "special tokens": "<|endoftext|>" * 10_000,
    "no blank at all in Chinese": "我" * 100_000,
}


@pytest.mark.parametrize("case", PATHOLOGICAL)
def test_pathological_texts_are_counted(case: str) -> None:
    """No panic of the encoder, nothing quadratic (the suite's time limit would show it)."""
    text = PATHOLOGICAL[case]
    count = count_text(text, "gpt-4o")
    assert 0 < count.tokens <= count.upper <= len(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300), st.sampled_from(["gpt-4o", "gpt-4", "claude-opus-4-7", "mistral-large", "who-knows"]))
def test_never_more_tokens_than_bytes(text: str, model: str) -> None:
    """The byte bound holds for every text, and expected never exceeds upper."""
    count = count_text(text, model)
    assert 0 <= count.tokens <= count.upper <= len(text.encode())
    assert (count.tokens == 0) == (not text)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([" ", "  ", "\n", "word", "don't", "12345", "我们", "é", "!?", "\t", "</s>"]), max_size=60)
)
def test_pieces_of_random_texts_are_never_below(parts: list[str]) -> None:
    """Any mixture of words and blanks, long enough to be cut."""
    text = "".join(parts) * 40
    whole = len(reference("o200k_base").encode_ordinary(text))
    count = count_text(text, "gpt-4o")
    assert whole <= count.upper
    assert count.tokens <= whole + whole // 1000 + 12


FAMILIES = [
    ("gpt-4o", "o200k_base", 100, True),
    ("openai/gpt-4.1-mini", "o200k_base", 100, True),
    ("azure/gpt-5.1", "o200k_base", 100, True),
    ("ft:gpt-4.1-mini:acme::x", "o200k_base", 100, True),
    ("o3", "o200k_base", 100, True),
    ("groq/openai/gpt-oss-120b", "o200k_base", 100, True),
    ("gpt-4", "cl100k_base", 100, True),
    ("gpt-4-turbo-2024-04-09", "cl100k_base", 100, True),
    ("gpt-3.5-turbo", "cl100k_base", 100, True),
    ("text-embedding-3-large", "cl100k_base", 100, True),
    ("gpt-6-sol", "o200k_base", 150, False),
    ("claude-3-5-haiku-20241022", "o200k_base", 150, False),
    ("claude-opus-4", "o200k_base", 150, False),
    ("claude-sonnet-4-20250514", "o200k_base", 150, False),
    ("claude-opus-4-6-20260205", "o200k_base", 150, False),
    ("claude-sonnet-4.5", "o200k_base", 150, False),
    ("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", "o200k_base", 150, False),
    ("claude-opus-4-7", "o200k_base", 190, False),
    ("claude-sonnet-5", "o200k_base", 190, False),
    ("claude-fable-5", "o200k_base", 190, False),
    ("gemini/gemini-2.5-pro", "o200k_base", 120, False),
    ("mistral/codestral-latest", "o200k_base", 130, False),
    ("bedrock/mistral.mixtral-8x7b-instruct-v0:1", "o200k_base", 130, False),
    ("llama-3.3-70b", "o200k_base", 150, False),
    (None, "o200k_base", 150, False),
]


@pytest.mark.parametrize(("model", "vocabulary", "percent", "exact"), FAMILIES)
def test_models_have_their_tokenizer(model: str | None, vocabulary: str, percent: int, exact: bool) -> None:
    """By name, however it is written; a name that nobody knows is counted with a margin."""
    family = family_of(model)
    assert (family.vocabulary.name, family.percent, family.exact) == (vocabulary, percent, exact)


def test_factors_are_integer_arithmetic_rounded_up() -> None:
    """Claude 4.7 at 1.9 times o200k, a quarter more for ASCII in `upper`, twice for other scripts."""
    base = len(reference("o200k_base").encode_ordinary(SENTENCE))
    count = count_text(SENTENCE, "claude-opus-4-7")
    assert count == Count(-(-base * 190 // 100), -(-base * 190 * 125 // 10_000), "factor")
    hindi = CORPORA["hindi"]
    base = len(reference("o200k_base").encode_ordinary(hindi))
    count = count_text(hindi, "mistral-large-latest")
    assert count.upper >= base * 246 // 100  # the worst ratio that was measured


def test_counts_add_up_to_the_worst_way_of_counting() -> None:
    """One guess among exact counts makes the sum a guess."""
    assert Count(1, 2, "exact") + Count(3, 4, "bound") == Count(4, 6, "bound")
    assert Count(1, 2, "factor") + Count(3, 4, "exact") == Count(4, 6, "factor")


def test_warm_says_whether_there_is_a_vocabulary() -> None:
    """At start-up the vocabulary is loaded once."""
    assert warm("gpt-4o")
