"""The cheaper siblings that capguard knows, each held to the price book."""

from __future__ import annotations

from datetime import date

import pytest

from capguard.policy.downgrade import cheaper
from capguard.pricing.book import PriceBook
from capguard.pricing.downgrades import PARDONED, SIBLINGS, edges, findings, table


@pytest.mark.parametrize("edge", [*edges()], ids=lambda edge: edge.model)
def test_every_edge_keeps_the_rule(edge):
    """Strictly cheaper, capabilities kept, not retired; what is pardoned still has something to pardon."""
    assert (edge.findings != ()) == (edge.model in PARDONED), edge


def test_the_seeds_are_there():
    """And every chain ends."""
    assert SIBLINGS["gpt-4o"] == "gpt-4o-mini"
    assert SIBLINGS["claude-opus-4"] == "claude-sonnet-4"
    assert SIBLINGS["gemini-2.5-pro"] == "gemini-2.5-flash"
    for model in SIBLINGS:
        chain = [model]
        while further := SIBLINGS.get(chain[-1]):
            chain.append(further)
            assert len(chain) == len(set(chain)) <= 6


@pytest.mark.parametrize(
    ("model", "sibling"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o-mini"),
        ("azure/gpt-4o", "azure/gpt-4o-mini"),
        ("claude-opus-4-20250514", "claude-sonnet-4"),
        ("gpt-4o-mini", None),
        ("gpt-4o-audio-preview", None),
    ],
)
def test_names_are_found_as_in_a_policy(model: str, sibling: str | None):
    """With a date behind and a host before; a variant of another kind is none."""
    assert cheaper(table(), model) == sibling


def row(given: int, made: int, features: list[int], **more: object) -> list[object]:
    return ["x", "chat", given, made, given, given, 0, None, None, features, more]


BOOK = PriceBook.of(
    {
        "big": row(10, 20, [0, 1]),
        "good": row(5, 10, [0, 1]),
        "dearer": row(5, 20, [0, 1]),
        "blind": row(5, 10, [0]),
        "gone": row(5, 10, [0, 1], retires="2026-01-02"),
        "going": row(5, 10, [0, 1], retires="2026-01-03"),
    },
    as_of=date(2026, 1, 2),
    source="test",
    features=("tools", "vision"),
)


@pytest.mark.parametrize(
    ("sibling", "found"),
    [
        ("good", []),
        ("going", []),
        ("dearer", ["not cheaper in input and in output"]),
        ("blind", ["lacks vision"]),
        ("gone", ["retired on 2026-01-02"]),
        ("nobody", ["nobody is not listed"]),
    ],
)
def test_the_rule(sibling: str, found: list[str]):
    """Each part of it can fail."""
    assert list(findings(BOOK, "big", sibling)) == found
