"""The cap error as LangChain's own retries take it: final."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import langchain_core.exceptions

from capguard.errors import CapExceeded

if TYPE_CHECKING:
    _ModelError = Exception
else:  # the base of errors that LangChain's middleware asks whether a retry helps; langchain-core 1.0 has none yet
    _ModelError = getattr(langchain_core.exceptions, "ModelError", Exception)


class ModelCapExceeded(CapExceeded, _ModelError):
    """`CapExceeded` that LangChain, too, knows for an error that no retry mends."""

    is_retryable = False


class _AnyButCaps(type):
    def __instancecheck__(cls, error: object) -> bool:
        return isinstance(error, Exception) and not isinstance(error, CapExceeded)


class Retryable(Exception, metaclass=_AnyButCaps):
    """Stands for every exception but `CapExceeded`, where types are asked for: it is never raised itself."""


RETRYABLE: tuple[type[Exception], ...] = (Retryable,)
"""`model.with_retry(retry_if_exception_type=RETRYABLE)`: whatever may be tried again, a cap's refusal not."""


@contextmanager
def final_for_langchain() -> Iterator[None]:
    """A refusal inside of the block leaves it as `ModelCapExceeded`."""
    try:
        yield
    except ModelCapExceeded:
        raise
    except CapExceeded as refused:
        error: Any = ModelCapExceeded(refused.caps)
        raise error.with_traceback(refused.__traceback__) from None
