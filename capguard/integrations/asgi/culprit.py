"""The refusal behind an exception that left the application: itself, in a task group's bundle, or as the cause."""

from __future__ import annotations

from collections.abc import Iterator

from capguard.errors import BackendUnavailable, CapExceeded

Culprit = CapExceeded | BackendUnavailable

_DEEPEST = 20


def culprit(error: BaseException | None) -> Culprit | None:
    """The first refusal in `error`, None where it is about something else.

    What an exception was raised from is its cause; what merely was being handled then is not.
    """
    found = (each for each in _within(error, 0) if isinstance(each, CapExceeded | BackendUnavailable))
    return next(found, None)


def _within(error: BaseException | None, depth: int) -> Iterator[BaseException]:
    if error is None or depth > _DEEPEST:
        return
    yield error
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _within(each, depth + 1)
    yield from _within(error.__cause__, depth + 1)
