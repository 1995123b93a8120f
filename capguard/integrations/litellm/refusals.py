"""A refusal as it leaves a hook of LiteLLM: still capguard's exception, and one that LiteLLM lets stand.

A retry by `num_retries` runs the call again without the hook that refused it, except after an ImportError. A status of
429 would be retried and would cool down a deployment that others share; 422, the one of LiteLLM's own
BudgetExceededError, does neither.
"""

from __future__ import annotations

from typing import Any

from capguard.errors import CapExceeded, CapguardError

STATUS = 422


def lasting(error: CapguardError) -> CapguardError:
    """`error` as a subclass of its own class that no retry of LiteLLM steps over."""
    if isinstance(error, ImportError):
        return error
    made = _remade(type(error), error.caps if isinstance(error, CapExceeded) else str(error))
    made.__cause__ = error.__cause__
    return made


def _remade(kind: Any, given: Any) -> CapguardError:
    if kind not in _LASTING:
        own = {"status_code": STATUS, "__module__": kind.__module__, "__reduce__": _reduced}
        _LASTING[kind] = type(kind.__name__, (kind, ImportError), {**own, "__doc__": kind.__doc__})
    made: Any = _LASTING[kind](given)
    made.message = str(made)  # a Router adds to it
    return made  # type: ignore[no-any-return]


def _reduced(error: Any) -> tuple[Any, ...]:
    """For pickle: the class is made where it is needed."""
    return _remade, (type(error).__mro__[1], error.caps if isinstance(error, CapExceeded) else str(error))


_LASTING: dict[Any, Any] = {}
