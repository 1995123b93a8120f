"""`python -m benchmarks.estimates`: estimates next to litellm.token_counter and plain tiktoken, in one run.

Then, on a trace of real calls (a CSV with GeneratedTokens, or the slice that is shipped), how often a call exceeds its
hold, and how much more is held than used, next to the fixed rule of 16,384 tokens.
"""

from __future__ import annotations

import csv
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from capguard import Guard
from capguard.habits import Habits
from capguard.pricing import tokens
from capguard.pricing.prompt import Prompt
from capguard.pricing.seen import Seen
from capguard.pricing.vocabulary import O200K, encoding

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

MODEL = "gpt-4o"
FIXED = 16_384
DEFAULT = 1_024
FEATURES = ("chat", "summary", "search", "agent")
WORDS = (
    "quick",
    "brown",
    "foxes",
    "jump",
    "over",
    "lazy",
    "dogs",
    "while",
    "nobody",
    "counts",
    "tokens",
    "for",
    "them",
)

Row = tuple[str, str, str, str]


def main() -> None:
    encoder = encoding(O200K)
    if encoder is None:
        sys.exit("no vocabulary is at hand: see `capguard warm`")
    rows = [*sizes(encoder), chat(encoder), *calls()]
    print(f"{'what':48} {'capguard':>14} {'litellm':>14} {'tiktoken':>14}")
    for row in rows:
        print("{:48} {:>14} {:>14} {:>14}".format(*row))
    print()
    for line in trace(sys.argv[1] if len(sys.argv) > 1 else None):
        print(line)


def sizes(encoder: Any) -> list[Row]:
    """The bound, and the first exact count, of prompts of 1 KB to 1 MB."""
    import litellm

    rows: list[Row] = []
    for size in (1_000, 10_000, 100_000, 1_000_000):
        messages = [{"role": "user", "content": text_of(size)}]
        bound = best(lambda m=messages: Prompt(messages=m).bound(MODEL), 2_000)
        exact = best(lambda m=messages: fresh(m), 5)
        theirs = best(lambda m=messages: litellm.token_counter(model=MODEL, messages=m), 5)
        plain = best(lambda m=messages: encoder.encode_ordinary(m[0]["content"]), 5)
        rows.append((f"bound of {size // 1000} KB", us(bound), "", ""))
        rows.append((f"count of {size // 1000} KB, never seen", us(exact), us(theirs), us(plain)))
    return rows


def chat(encoder: Any) -> Row:
    """50 turns, 100 KB, and one new message: counted with its history seen before, and anew."""
    import litellm

    history = [{"role": "user" if turn % 2 else "assistant", "content": text_of(2_000)} for turn in range(50)]
    Prompt(messages=history).count(MODEL)
    asked = [[*history, {"role": "user", "content": text_of(2_000)}] for _ in range(60)]
    ours = each(lambda messages: Prompt(messages=messages).count(MODEL), asked)
    theirs = each(lambda messages: litellm.token_counter(model=MODEL, messages=messages), asked)
    plain = each(lambda messages: [encoder.encode_ordinary(one["content"]) for one in messages], asked)
    anew = each(fresh, asked)
    return (f"chat of 100 KB resent ({anew / ours:.0f}x faster than anew)", us(ours), us(theirs), us(plain))


def calls() -> list[Row]:
    """reserve + release in memory, by the bound: a 1 MB prompt beside a 5 KB one."""
    policy = {"caps": [{"id": "monthly", "limit": 1_000_000}]}
    rows: list[Row] = []
    with Guard("memory://", policy=policy, warm=True) as guard:
        for size in (5_000, 1_000_000):
            messages = [{"role": "user", "content": text_of(size)}]

            def one(messages: Any = messages) -> None:
                guard.release(guard.reserve(user="u1", model=MODEL, messages=messages, max_tokens=500))

            rows.append((f"reserve + release in memory, {size // 1000} KB", us(best(one, 300)), "", ""))
    return rows


def trace(path: str | None) -> list[str]:
    """Real output lengths; features are drawn, each with a scale of its own, so that there is something to learn."""
    lengths = lengths_of(path)
    draw = random.Random(7)
    features = [draw.choice(FEATURES) for _ in lengths]
    habits, held = Habits(), []
    for feature, length in zip(features, lengths, strict=True):
        habit = habits.of(feature, MODEL)
        held.append(min(DEFAULT if habit is None else habit.most, FIXED))
        habits.learn(feature, MODEL, length)
    fixed = [FIXED] * len(lengths)
    return [
        f"{len(lengths)} replies of the trace, {len(FEATURES)} features; held for the output:",
        rule("learned", held, lengths),
        rule(f"fixed {FIXED:,}", fixed, lengths),
    ]


def rule(name: str, held: Sequence[int], used: Sequence[int]) -> str:
    over = sum(length > hold for length, hold in zip(used, held, strict=True)) / len(used)
    mean = statistics.mean(hold / max(length, 1) for length, hold in zip(used, held, strict=True))
    total = sum(held) / sum(used)
    return f"  {name:14} over their hold {over:6.2%}   mean hold/actual {mean:7.1f}   all held / all used {total:6.1f}"


def lengths_of(path: str | None) -> list[int]:
    if path is None:
        from capguard.testing.trace import load_trace

        return [each.output_tokens for each in load_trace(3_000)]
    with Path(path).open(newline="") as file:
        return [int(row["GeneratedTokens"]) for row in csv.DictReader(file)]


def fresh(messages: Any) -> object:
    """A count with nothing seen before."""
    kept, tokens._seen = tokens._seen, Seen()
    try:
        return Prompt(messages=messages).count(MODEL)
    finally:
        tokens._seen = kept


def text_of(size: int) -> str:
    """Words by a seed that is never the same twice, so that nothing was seen before."""
    text_of.seed += 1  # type: ignore[attr-defined]
    draw = random.Random(text_of.seed)  # type: ignore[attr-defined]
    words = " ".join(draw.choices(WORDS, k=size // 4))
    return (words + "x" * size)[:size]


text_of.seed = 0  # type: ignore[attr-defined]


def best(work: Callable[[], object], batch: int, rounds: int = 7) -> float:
    """Microseconds for one piece of work, in the best of a few rounds."""
    work()
    return min(timed(lambda: [work() for _ in range(batch)]) for _ in range(rounds)) / batch


def each(work: Callable[[Any], object], inputs: Sequence[Any]) -> float:
    """The best over inputs that are each seen once."""
    return min(timed(lambda given=given: work(given)) for given in inputs)


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e6


def us(value: float) -> str:
    return f"{value:,.1f} us" if value < 1000 else f"{value / 1000:,.2f} ms"


if __name__ == "__main__":
    main()
