"""`python -m benchmarks`: the numbers of the design that this version can be held to, as ratios."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.bare import BareLedger
from benchmarks.pairs import Pair, in_turns
from capguard import Guard, Usage

POLICY = {
    "caps": [
        {"id": "monthly", "limit": 1_000_000},
        {"id": "weekly", "limit": 1_000_000, "window": "weekly"},
        {"id": "company", "limit": 5_000_000, "per": [], "window": "daily"},
    ]
}
MESSAGES = [{"role": "user", "content": "Summarise the attached minutes in three sentences, please."}]


def main() -> None:
    rows = [memory(), sqlite(), imports()]
    print(f"{'what':58} {'measured':>22} {'target':>10}   next to")
    for what, measured, target, beside in rows:
        print(f"{what:58} {measured:>22} {target:>10}   {beside}")


def memory() -> tuple[str, str, str, str]:
    """reserve + settle in memory against one mocked LiteLLM completion."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    guard = Guard("memory://", policy=POLICY)

    def theirs() -> None:
        litellm.completion(model="gpt-4o", messages=MESSAGES, mock_response="Three sentences.")

    pair = in_turns(lambda: reserve_and_settle(guard), theirs, rounds=30, batch=100, batch_theirs=20)
    return (
        "memory: reserve + settle, 3 caps",
        shown(pair, percent=True),
        "<= 5%",
        "litellm.completion(mock_response=...)",
    )


def sqlite() -> tuple[str, str, str, str]:
    """reserve + settle on SQLite against two bare transactions."""
    with tempfile.TemporaryDirectory() as folder, Guard(f"sqlite:///{folder}/ours.db", policy=POLICY) as guard:
        reserve_and_settle(guard)
        bodies = [json.dumps(entry.body, separators=(",", ":")) for entry in guard.entries()]
        bare = BareLedger(Path(folder, "bare.db"), *bodies, meters=3)
        pair = in_turns(lambda: reserve_and_settle(guard), bare.reserve_and_settle)
    return (
        "sqlite: reserve + settle, 3 caps, synchronous=NORMAL",
        shown(pair),
        "<= 2x",
        "two bare transactions, same rows",
    )


def imports() -> tuple[str, str, str, str]:
    """`import capguard` against an empty interpreter, both as processes."""
    code = "import time; t = time.perf_counter(); import capguard; print((time.perf_counter() - t) * 1000)"
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in range(9)
    ]
    return "import capguard", f"{statistics.median(runs):.1f} ms", "<= 100 ms", "inside a fresh interpreter"


def reserve_and_settle(guard: Guard) -> None:
    held = guard.reserve(user="user_1", model="gpt-4o", messages=MESSAGES, max_tokens=200)
    guard.settle(held, usage=Usage(input_tokens=20, output_tokens=120))


def shown(pair: Pair, *, percent: bool = False) -> str:
    low, high = pair.spread
    if percent:
        return f"{pair.ratio:.1%} ({low:.1%}-{high:.1%})"
    return f"{pair.ratio:.2f}x ({low:.2f}-{high:.2f})"


if __name__ == "__main__":
    main()
