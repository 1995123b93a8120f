"""The table of cases reaches every outcome, and every line of the decision."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, ModuleType
from typing import Any, get_args

import pytest

from capguard.backends.memory import MemoryBackend
from capguard.ledger import decide, ending, idle, judge, revisions, second_phase, sources, verify
from capguard.ledger.outcomes import Kept, Outcome
from capguard.testing.clock import ManualClock
from capguard.testing.conformance import CASES, Case
from capguard.testing.conformance.script import Wait

MODULES = [decide, judge, sources, second_phase, ending, idle, revisions, verify]

BESIDES = {"yield Difference(*key, what, journal, actual)", "yield Difference(*key, "}
"""What only damaged books reach: tests/ledger/test_verify.py."""


def _played(case: Case) -> Iterator[Outcome]:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    for step in case.steps:
        if isinstance(step, Wait):
            clock.advance(seconds=step.seconds)
        else:
            yield backend.execute(step[0])


def test_every_outcome_is_reached() -> None:
    """But what is said in the place of a backend that is away."""
    reached = {type(outcome) for case in CASES for outcome in _played(case)}
    assert reached == set(get_args(Outcome)) - {Kept}


def test_promises_are_told_apart() -> None:
    promises = [case.promise for case in CASES]
    assert len(promises) == len(set(promises))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_line_is_reached(module: ModuleType) -> None:
    source = inspect.getsource(module).splitlines()
    missed = sorted(_lines_of(module) - _lines_run(module))
    assert [line for line in missed if not any(each in source[line - 1] for each in BESIDES)] == []


def _lines_of(module: ModuleType) -> set[int]:
    """The lines of every function in the module, the first of each (its signature) aside."""
    functions = [
        each for _, each in inspect.getmembers(module, inspect.isfunction) if each.__module__ == module.__name__
    ]
    return {line for each in functions for code in _codes(each.__code__) for line in _body(code)}


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _body(code: CodeType) -> set[int]:
    return {line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno}


def _lines_run(module: ModuleType) -> set[int]:
    run: set[int] = set()

    def trace(frame: FrameType, event: str, _arg: Any) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != module.__file__:
            return None
        run.add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for case in CASES:
            list(_played(case))
    finally:
        sys.settrace(before)
    return run
