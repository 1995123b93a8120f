"""Which of LiteLLM's exceptions prove that the provider did not bill.

LiteLLM gives a status to errors that had none: a dropped connection, a refused one and garbage in a reply all come as
InternalServerError or APIConnectionError with status 500. What really happened stands in the exceptions behind it: the
first of them that comes from the network decides. An error of LiteLLM's own with nothing behind it was raised before
anything was sent.
"""

from __future__ import annotations

from collections.abc import Iterator

from capguard.unbilled import is_unbilled

_ANSWERED = {"HTTPStatusError", "APIStatusError"}
_NOT_PROVEN = {"TransportError", "APIConnectionError", "APITimeoutError", "TimeoutError", "Timeout", "OSError"}
_DEEPEST = 20


def nothing_billed(error: BaseException) -> bool:
    """Whether `error`, as LiteLLM raised it, proves that nothing was billed."""
    if not _is_from_litellm(error):
        return is_unbilled(error)
    behind = [each for each in _chain(error) if not _is_from_litellm(each)]
    for each in behind:
        names = {base.__name__ for base in type(each).__mro__}
        if names & _ANSWERED:
            return True
        if names & _NOT_PROVEN:
            return any(_never_connected(deeper) for deeper in behind)
    return not behind and _is_refusal(error)


def _is_from_litellm(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "litellm" and "HTTPStatusError" not in type(error).__name__


def _never_connected(error: BaseException) -> bool:
    return is_unbilled(error) and getattr(error, "status_code", None) is None


def _is_refusal(error: BaseException) -> bool:
    """A 4xx that LiteLLM gave by itself: an unknown provider, a missing key, a budget of its own."""
    status = getattr(error, "status_code", None)
    return isinstance(status, int) and 400 <= status < 500 and "Timeout" not in type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < _DEEPEST:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
