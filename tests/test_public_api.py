"""The names that people build on, and how light they are."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import capguard
from capguard import Guard
from capguard.call import Call

DESIGN = {
    "Guard", "Policy", "Plan", "Cap", "Grant", "Usage", "Identity", "capped", "identify", "configure", "current_call",
    "CapguardError", "CapExceeded", "BackendUnavailable", "IdempotencyMismatch", "IdentityMissing", "PolicyError",
    "UnknownModel",
}  # fmt: skip
OURS = {"MissingExtra", "UnknownReservation", "carry", "__version__"}

VERBS = ("reserve", "settle", "release", "extend", "check", "allow", "status", "entries", "verify", "flush", "close")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not done.stderr
    return done.stdout.strip()


def test_the_public_names():
    """Those that were promised and a few more, each of them there; nothing else is public."""
    assert set(capguard.__all__) == DESIGN | OURS
    assert capguard.__all__ == sorted(capguard.__all__)
    for name in capguard.__all__:
        assert getattr(capguard, name) is not None
    assert set(capguard.__all__) <= set(dir(capguard))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        capguard.nothing  # noqa: B018


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_there_twice(verb: str):
    """Sync and async, with the same arguments."""
    one, other = inspect.signature(getattr(Guard, verb)), inspect.signature(getattr(Guard, f"a{verb}"))
    assert list(one.parameters.values()) == list(other.parameters.values())
    waits = inspect.iscoroutinefunction(getattr(Guard, f"a{verb}"))
    assert waits != (verb == "entries")


def test_what_a_call_offers():
    """Inside the block."""
    assert {"id", "model", "params", "reservation", "settle", "release", "stream"} <= {
        *dir(Call),
        *Call.__init__.__code__.co_names,
    }


HEAVY = ("litellm", "langchain", "langchain_core", "redis", "starlette", "tiktoken", "pydantic", "openai", "anthropic",
         "httpx", "typer", "rich", "yaml")  # fmt: skip


def test_importing_it_is_light():
    """No framework, no tokenizer, no validation: those come with the first Guard, or with their adapter."""
    loaded = python("import sys, capguard; print(*sys.modules)").split()
    assert set(HEAVY) & set(loaded) == set()


def test_using_it_needs_no_framework():
    """A Guard and a call bring in nothing of a host's."""
    code = """
import sys
from capguard import Guard, capped, identify
with Guard("memory://", policy={"caps": [{"id": "m", "limit": 5}]}) as guard:
    with guard.call(user="u1", cost="0.1") as call:
        call.settle(cost="0.1")
print(*sys.modules)
"""
    assert set(HEAVY) & set(python(code).split()) <= {"pydantic", "tiktoken"}


def test_the_version_is_one():
    """That of the package's metadata."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        assert version("capguard") == capguard.__version__
    except PackageNotFoundError:
        pytest.skip("capguard runs from its source tree")


def test_every_public_name_is_documented():
    """What it is, in plain words."""
    for name in DESIGN | OURS - {"__version__"}:
        assert inspect.getdoc(getattr(capguard, name)), name
    for verb in VERBS:
        assert inspect.getdoc(getattr(Guard, verb)), verb
