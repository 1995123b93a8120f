"""Which cheaper model stands in for a model: the policy's map, read as a finite chain."""

from __future__ import annotations

from collections.abc import Mapping

from capguard.policy.globs import best_match

MAX_CANDIDATES = 8
"""Models that one decision considers at most, the requested one among them."""


def cheaper(table: Mapping[str, str], model: str) -> str | None:
    """The model to fall to, by the policy's `[downgrade]` table; None where it names none.

    `openai/gpt-4o` is looked up as it is, then as `gpt-4o`: what is found then keeps the prefix.
    """
    if found := _entry(table, model):
        return found
    prefix, slash, name = model.rpartition("/")
    found = _entry(table, name) if slash else None
    return found if found is None or "/" in found else f"{prefix}/{found}"


def chain_from(table: Mapping[str, str], model: str) -> list[str]:
    """`model` and the models that `table` leads to from it, up to the end or the first that comes again."""
    chain = [model]
    while chain[-1] not in chain[:-1] and (further := cheaper(table, chain[-1])):
        chain.append(further)
    return chain


def _entry(table: Mapping[str, str], model: str) -> str | None:
    pattern = best_match(table, model)
    return None if pattern is None or table[pattern] == model else table[pattern]
