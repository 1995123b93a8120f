"""OpenAI's public vocabularies, read from files that are already here. The network is never touched.

tiktoken's own loader deletes a file whose hash does not match and then downloads without a time limit; so the file is
found, checked and parsed here, and only the finished ranks are given to tiktoken.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tiktoken


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """One published vocabulary: the file's name in a tiktoken cache (sha1 of its URL), its sha256, its splitting rule.

    Source of the constants: tiktoken_ext/openai_public.py.
    """

    name: str
    file: str
    sha256: str
    pattern: str


_O200K_PATTERN = "|".join(
    [
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""\p{N}{1,3}""",
        r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
        r"""\s*[\r\n]+""",
        r"""\s+(?!\S)""",
        r"""\s+""",
    ]
)
_CL100K_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
    r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)
O200K = Vocabulary(
    "o200k_base",
    "fb374d419588a4632f3f557e76b4b70aebbca790",
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    _O200K_PATTERN,
)
CL100K = Vocabulary(
    "cl100k_base",
    "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    _CL100K_PATTERN,
)

_loaded: dict[Vocabulary, tiktoken.Encoding | None] = {}
_loading = threading.Lock()


def encoding(vocabulary: Vocabulary) -> tiktoken.Encoding | None:
    """tiktoken's encoder for `vocabulary`, loaded once; None where no file with the published hash is at hand."""
    if vocabulary not in _loaded:
        with _loading:
            if vocabulary not in _loaded:
                _loaded[vocabulary] = _load(vocabulary)
    return _loaded[vocabulary]


def _load(vocabulary: Vocabulary) -> tiktoken.Encoding | None:
    for path in _places(vocabulary.file):
        data = _read(path)
        if data is not None and hashlib.sha256(data).hexdigest() == vocabulary.sha256:
            return _build(vocabulary, data)
    return None


def _places(file: str) -> Iterator[Path]:
    """tiktoken's own cache, then the copy that LiteLLM carries."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if folder := os.environ.get(variable):
            yield Path(folder) / file
    for folder in _litellm_folders():
        yield Path(folder) / "litellm_core_utils" / "tokenizers" / file


def _litellm_folders() -> list[str]:
    try:
        spec = find_spec("litellm")
    except ValueError:  # a stand-in module that somebody put into sys.modules
        return []
    return list(spec.submodule_search_locations or ()) if spec else []


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _build(vocabulary: Vocabulary, data: bytes) -> tiktoken.Encoding:
    import tiktoken

    pairs = (line.split() for line in data.splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    return tiktoken.Encoding(vocabulary.name, pat_str=vocabulary.pattern, mergeable_ranks=ranks, special_tokens={})
