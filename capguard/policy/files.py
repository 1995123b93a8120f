"""Policy files: TOML, YAML and JSON into tables, with file, line and column where the syntax is wrong."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn

from capguard.errors import Finding, PolicyError, missing_extra
from capguard.policy.findings import shown

MAX_BYTES = 1_000_000
"""The largest policy file."""

_TOML_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def read_file(path: str | os.PathLike[str]) -> Any:
    """What stands in a .toml, .yaml, .yml or .json file.

    Raises `PolicyError` that names the file, with line and column for bad syntax; `MissingExtra` for YAML without
    its package.
    """
    file = Path(path).absolute()
    parse = _PARSERS.get(file.suffix.lower())
    if parse is None:
        _refuse(str(file), f"a file named {shown(file.suffix)}", f"a file that ends in {', '.join(_PARSERS)}")
    text = _text(file)
    try:
        return parse(text, str(file))
    except RecursionError:
        _refuse(str(file), "too many levels", "a document of a few levels")


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        allowed = f"a readable file that ends in {', '.join(_PARSERS)}; a policy given as text is not accepted"
        _refuse(str(file), error.strerror or type(error).__name__, allowed)
    if len(raw) > MAX_BYTES:
        _refuse(str(file), f"more than {MAX_BYTES} bytes", f"a file of at most {MAX_BYTES} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        _refuse(f"{file}:{line}", f"byte 0x{raw[error.start]:02x}", "text in UTF-8")


def _toml(text: str, file: str) -> Any:
    try:
        return tomllib.loads(text, parse_float=_decimal)
    except ValueError as error:
        told = str(error)
        at = _TOML_AT.search(told)
        end = (str(text.count("\n") + 1), str(len(text) - text.rfind("\n")))
        line, column = (at.groups() if at and at[1] else end) if at else (None, None)
        place = f"{file}:{line}:{column}" if line else file
        _refuse(place, _TOML_AT.sub("", told), "TOML")


def _json(text: str, file: str) -> Any:
    try:
        return json.loads(text, parse_float=_decimal, parse_constant=_no_constant, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        _refuse(f"{file}:{error.lineno}:{error.colno}", error.msg, "JSON")
    except ValueError as error:
        _refuse(file, str(error), "JSON")


def _yaml(text: str, file: str) -> Any:
    try:
        import yaml

        from capguard.policy.yamlfile import load_yaml
    except ImportError as error:
        missing_extra("a YAML policy", "yaml", error)
    try:
        return load_yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        _refuse(place, error.problem or str(error), "YAML with plain values")
    except (yaml.YAMLError, ValueError) as error:
        _refuse(file, " ".join(str(error).split()), "YAML with plain values")


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"the number {text:.60}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the key {shown(key)} stands twice in one table")
        table[key] = value
    return table


def _refuse(place: str, found: str, allowed: str) -> NoReturn:
    raise PolicyError([Finding(place, found, allowed)]) from None


_PARSERS: dict[str, Callable[[str, str], Any]] = {".toml": _toml, ".yaml": _yaml, ".yml": _yaml, ".json": _json}
