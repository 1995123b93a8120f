"""From the files of a script to one text that Lua begins quickly.

A script begins anew with every call, and whatever is defined in it is made anew: a function costs the more, the more
names of its surroundings it uses. Measured, half of a script's time went there. So constants are written in where they
are used, and functions that a script does not reach are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_PIECE = re.compile(r"(?P<string>'[^'\n]*')|(?P<comment>--[^\n]*)|(?P<name>(?<![.\w])[A-Za-z_]\w*)")
_CONSTANTS = re.compile(r"^local (?P<names>[A-Z][A-Z_]*(?:, [A-Z][A-Z_]*)*) = (?P<values>['\d][^\n]*)$", re.MULTILINE)
_FUNCTION = re.compile(r"^local function (?P<name>\w+)\((?:[^\n]* end$|.*?^end$)", re.MULTILINE | re.DOTALL)


def linked(source: str) -> str:
    """The same script: without comments and idle functions, its constants (all capitals, at the left) written in."""
    return _reached(_with_constants(_replaced(source, comment=lambda _: "")))


def _with_constants(source: str) -> str:
    constants: dict[str, str] = {}
    for found in _CONSTANTS.finditer(source):
        constants |= zip(found["names"].split(", "), found["values"].split(", "), strict=True)
    return _replaced(_CONSTANTS.sub("", source), name=lambda name: constants.get(name, name))


def _reached(source: str) -> str:
    """Functions at the left margin are kept where the rest of the script comes to them."""
    functions = {found["name"]: found[0] for found in _FUNCTION.finditer(source)}
    wanted = list(_names(_FUNCTION.sub("", source)))
    reached = set()
    while wanted:
        name = wanted.pop()
        if name in functions and name not in reached:
            reached.add(name)
            wanted += _names(functions[name])
    short = _FUNCTION.sub(lambda found: found[0] if found["name"] in reached else "", source)
    return "\n".join(line.strip() for line in short.splitlines() if line.strip())


def _names(source: str) -> Iterator[str]:
    return (found["name"] for found in _PIECE.finditer(source) if found["name"])


def _replaced(source: str, **by: Callable[[str], str]) -> str:
    """Strings, comments or names as `by` says, by kind; the rest as it is."""
    return _PIECE.sub(lambda found: by.get(found.lastgroup or "", str)(found[0]), source)
