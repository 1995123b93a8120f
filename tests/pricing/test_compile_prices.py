"""The compiler of the snapshot: the same bytes from the same list, and no row that cannot be true."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts/compile_prices.py"


def compiled(to: Path, as_of: str) -> bytes:
    subprocess.run([sys.executable, str(SCRIPT), "--as-of", as_of, "--out", str(to)], check=True, capture_output=True)
    return to.read_bytes()


def test_the_shipped_snapshot_is_what_the_script_makes(tmp_path: Path) -> None:
    """Deterministic: byte for byte, as long as the same LiteLLM is installed."""
    shipped = (ROOT / "capguard/pricing/snapshot.json.gz").read_bytes()
    document = json.loads(gzip.decompress(shipped))
    if document["source_version"] != version("litellm"):
        pytest.skip("another litellm is installed than the one that the snapshot was compiled from")
    assert compiled(tmp_path / "one", document["as_of"]) == shipped


def test_retired_models_stay_known() -> None:
    """Every hand-kept name is in the snapshot, and says where its price is from."""
    retired = json.loads((ROOT / "scripts/retired_prices.json").read_bytes())
    shipped = json.loads(gzip.decompress((ROOT / "capguard/pricing/snapshot.json.gz").read_bytes()))
    assert "LiteLLM" in retired["remark"]
    assert set(retired["models"]) <= set(shipped["models"])
