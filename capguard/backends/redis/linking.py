"""From the files of a script to one text that Lua begins quickly.

A script begins anew with every call, and whatever is defined in it is made anew: a function costs the more, the more
names of its surroundings it uses. So constants are written in where they are used, functions that a script does not
reach are left out, and what only a function that is seldom called comes to is made inside of that one, when it is
called. Such a function says so behind its head: `local function name(...) -- seldom`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_PIECE = re.compile(r"(?P<string>'[^'\n]*')|(?P<comment>--[^\n]*)|(?P<name>(?<![.\w])[A-Za-z_]\w*)")
_CONSTANTS = re.compile(r"^local (?P<names>[A-Z][A-Z_]*(?:, [A-Z][A-Z_]*)*) = (?P<values>['\d][^\n]*)$", re.MULTILINE)
_FUNCTION = re.compile(r"^local function (?P<name>\w+)\((?:[^\n]* end$|.*?^end$)", re.MULTILINE | re.DOTALL)
_SELDOM = re.compile(r"^local function (?P<name>\w+)\([^\n]*\) -- seldom$", re.MULTILINE)


def linked(source: str) -> str:
    """The same script: without comments and idle functions, its constants (all capitals, at the left) written in."""
    seldom = [found["name"] for found in _SELDOM.finditer(source)]
    return _short(_nested(_with_constants(_replaced(source, comment=lambda _: "")), seldom))


def _with_constants(source: str) -> str:
    constants: dict[str, str] = {}
    for found in _CONSTANTS.finditer(source):
        constants |= zip(found["names"].split(", "), found["values"].split(", "), strict=True)
    return _replaced(_CONSTANTS.sub("", source), name=lambda name: constants.get(name, name))


def _nested(source: str, seldom: Sequence[str]) -> str:
    """Functions at the left margin stay where the rest of the script comes to them, or inside of a seldom one."""
    functions = {found["name"]: found[0] for found in _FUNCTION.finditer(source)}
    uses = {name: [used for used in _names(text) if used in functions] for name, text in functions.items()}
    begun = [name for name in _names(_FUNCTION.sub("", source)) if name in functions]
    kept = _reached(begun, uses, ())
    texts = {name: text if name in kept else "" for name, text in functions.items()}
    for holder in seldom:  # the inner ones stand first: they go into the outer ones with what they hold
        own = [name for name in functions if texts.get(name) and name not in _reached(begun, uses, (holder,))]
        if holder in own:
            own.remove(holder)
            head, _, body = texts[holder].partition("\n")
            texts[holder] = "\n".join([head, *(texts.pop(name) for name in own), body])
    return _FUNCTION.sub(lambda found: texts.get(found["name"], ""), source)


def _reached(begun: Iterable[str], uses: Mapping[str, Sequence[str]], without: Sequence[str]) -> set[str]:
    """The functions that are come to from those, on ways that lead through none of `without`."""
    wanted, reached = list(begun), set(without)
    while wanted:
        name = wanted.pop()
        if name not in reached:
            reached.add(name)
            wanted += uses[name]
    return reached - set(without)


def _short(source: str) -> str:
    return "\n".join(line.strip() for line in source.splitlines() if line.strip())


def _names(source: str) -> Iterator[str]:
    return (found["name"] for found in _PIECE.finditer(source) if found["name"])


def _replaced(source: str, **by: Callable[[str], str]) -> str:
    """Strings, comments or names as `by` says, by kind; the rest as it is."""
    return _PIECE.sub(lambda found: by.get(found.lastgroup or "", str)(found[0]), source)
