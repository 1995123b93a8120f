"""The paths that matter most, on SQLite and on a real Redis."""

from __future__ import annotations

from pathlib import Path as File

import pytest

from tests.backends.servers import WHEEL, shared
from tests.integrations.langchain import test_handler, test_model, test_paths
from tests.integrations.langchain.paths import ASYNC, Path

OUTCOMES = {
    "allowed": test_paths.test_allowed,
    "blocked": test_paths.test_blocked,
    "provider error": test_paths.test_provider_error,
    "cancelled": test_paths.test_cancelled,
    "abandoned": test_paths.test_abandoned,
}
KEY = [
    *(Path(way, "model") for way in ("invoke", "ainvoke", "astream", "generate")),
    *(Path("abatch", "chain"), Path("ainvoke", "agent"), Path("invoke", "graph"), Path("invoke", "llm")),
]


@pytest.fixture(params=["sqlite", "redis"])
def ledger(request: pytest.FixtureRequest, tmp_path: File) -> str:
    return (
        f"sqlite:///{tmp_path}/ledger.db?timeout=30"
        if request.param == "sqlite"
        else f"{shared(WHEEL).url}?deadline=30"
    )


def _is(outcome: str, path: Path) -> bool:
    """Whether a path can end so."""
    return {"cancelled": path.way in ASYNC, "abandoned": "stream" in path.way}.get(outcome, True)


@pytest.mark.parametrize(
    ("path", "outcome"), [(path, outcome) for path in KEY for outcome in OUTCOMES if _is(outcome, path)], ids=str
)
async def test_outcome(path, outcome, to_fake, guard, config, fake):
    """As in the table of all paths, whatever the ledger."""
    await OUTCOMES[outcome](path, to_fake, guard, config, fake)


async def test_fifty_at_once(to_fake, guard, handler, fake):
    """Exactly four reach the provider."""
    await test_handler.test_fifty_at_once(2, to_fake, guard, handler, fake)


async def test_fifty_at_once_on_a_capped_model(to_fake, guard, fake):
    """Exactly four reach the provider, and no call waits for another's ledger."""
    await test_model.test_fifty_at_once(to_fake, guard, fake)
