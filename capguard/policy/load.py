"""Policies in and out: from a file, tables or objects; to plain tables and a hash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from capguard.errors import Finding, PolicyError
from capguard.policy.document import Policy
from capguard.policy.files import read_file
from capguard.policy.findings import findings_of, shown

MAX_VALUES = 200_000
"""Values in one document, aliases counted each time they are used."""

MAX_DEPTH = 20


def load_policy(source: object) -> Policy:
    """The policy in `source`: a `Policy`, a table, a list of caps, or the path of a .toml, .yaml, .yml or .json file.

    A str is always a path. Raises `PolicyError` with every finding.
    """
    if isinstance(source, Policy):
        return source
    if isinstance(source, (str, os.PathLike)):
        source = read_file(source)
        source = {} if source is None else source
    if isinstance(source, (list, tuple)):
        source = {"caps": source}
    if not isinstance(source, Mapping):
        raise PolicyError([Finding("policy", shown(source), "a Policy, a table, a list of caps or the path of a file")])
    _bounded(source)
    try:
        return Policy.model_validate(source)
    except ValidationError as error:
        raise PolicyError([_placed(finding) for finding in findings_of(error)]) from None


def dump_policy(policy: Policy) -> dict[str, Any]:
    """The policy as a table of plain values, numbers with decimals as text; `load_policy` makes an equal one of it.

    What stands at its default is left out.
    """
    return policy.model_dump(mode="json", exclude_defaults=True)


def policy_hash(policy: Policy) -> str:
    """The first 12 hex digits of the SHA-256 of the canonical JSON; equal policies have equal hashes."""
    return document_hash(dump_policy(policy))


def document_hash(document: Mapping[str, Any]) -> str:
    """The hash of the policy that `dump_policy` made `document` of, also of one that is not accepted any more."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _bounded(document: object) -> None:
    """Refuse what is deeper or larger than any policy: circles, and aliases that multiply."""
    level, values = [document], 0
    for _ in range(MAX_DEPTH):
        level = [inner for value in level for inner in _inner(value)]
        values += len(level)
        if not level:
            return
        if values > MAX_VALUES:
            raise PolicyError([Finding("policy", "too many values", f"at most {MAX_VALUES} values")])
    raise PolicyError([Finding("policy", "too many levels", f"at most {MAX_DEPTH} levels")])


def _inner(value: object) -> list[object]:
    if isinstance(value, BaseModel):
        return []
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else []


def _placed(finding: Finding) -> Finding:
    return finding if finding.place else Finding("policy", finding.found, finding.allowed)
