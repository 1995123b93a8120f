"""Vocabularies come from files that are already here, checked by their hash; the network is never touched."""

from __future__ import annotations

import shutil
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import pytest

from capguard.pricing import vocabulary
from capguard.pricing.prompt import count_input
from capguard.pricing.tokens import Count, count_text, warm
from capguard.pricing.vocabulary import CL100K, O200K

BUNDLED = Path(str(find_spec("litellm").submodule_search_locations[0])) / "litellm_core_utils/tokenizers"  # type: ignore[union-attr,index]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is loaded, litellm is not installed, no cache is named, and every use of the network fails."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError(f"the network was touched: {args}")

    monkeypatch.setattr(vocabulary, "_loaded", {})
    monkeypatch.setitem(sys.modules, "litellm", None)
    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_without_files_the_bytes_are_the_bound() -> None:
    """No vocabulary: expected is a third of the bytes, rounded up; upper is the bytes; nothing is raised."""
    assert count_text("hello wörld!", "gpt-4o") == Count(5, 13, "bound")
    assert count_text("", "gpt-4o") == Count(0, 0, "bound")
    assert count_input("gpt-4o", messages=[{"role": "user", "content": "hello"}]).how == "bound"
    assert not warm("gpt-4o")


def test_an_empty_cache_folder_stays_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache without the file is no reason to fetch it."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert count_text("hello", "gpt-4o").how == "bound"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variable", ["TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"])
def test_reads_the_cache_of_tiktoken(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both names that tiktoken knows for its cache are honoured."""
    monkeypatch.setenv(variable, str(BUNDLED))
    assert count_text("hello world", "gpt-4o") == Count(2, 2, "exact")
    assert count_text("hello world", "gpt-4") == Count(2, 2, "exact")


def test_a_file_with_a_wrong_hash_is_not_used_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One changed byte: the count is a bound, and the file stays as it was."""
    damaged = tmp_path / O200K.file
    damaged.write_bytes((BUNDLED / O200K.file).read_bytes()[:-1] + b"!")
    before = damaged.read_bytes()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert count_text("hello", "gpt-4o").how == "bound"
    assert damaged.read_bytes() == before


def test_a_good_copy_behind_a_damaged_one_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search goes on after a file that cannot be trusted, or cannot be read."""
    (tmp_path / O200K.file).write_bytes(b"damaged")
    (tmp_path / CL100K.file).mkdir()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", str(BUNDLED))
    assert count_text("hello", "gpt-4o").how == "exact"
    assert count_text("hello", "gpt-4").how == "exact"


def test_litellms_copy_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed package is looked up, not run."""
    monkeypatch.delitem(sys.modules, "litellm")
    assert count_text("hello", "gpt-4o").how == "exact"
    assert "litellm" not in sys.modules


def test_a_stand_in_for_litellm_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module without a spec in sys.modules is passed over."""
    monkeypatch.setitem(sys.modules, "litellm", type(sys)("litellm"))
    assert count_text("hello", "gpt-4o").how == "bound"


def test_a_vocabulary_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first count the file is not needed any more."""
    copy = shutil.copy(BUNDLED / CL100K.file, tmp_path / CL100K.file)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert warm("gpt-4")
    Path(copy).unlink()
    assert count_text("hello", "gpt-4").how == "exact"
