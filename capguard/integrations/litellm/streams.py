"""A stream of LiteLLM, metered, as its caller would have seen it: its type, and no usage that nobody asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from capguard.pricing.fields import get, items_of
from capguard.streams import AsyncStream, SyncStream


class _Chunks:
    """Passes for the stream of LiteLLM that is behind it, whose attributes are its own."""

    def __init__(self, stream: Any, source: Any, *, hides_usage: bool):
        self._stream = stream
        self._source = source
        self._hides_usage = hides_usage

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # callers and LiteLLM's Router ask isinstance(reply, CustomStreamWrapper)
        return type(self._source)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # whether it is async is asked by these, and LiteLLM's streams are both
            raise AttributeError(name)
        return getattr(self._stream, name)

    def _hides(self, chunk: Any) -> bool:
        return self._hides_usage and is_only_usage(chunk)


class SyncChunks(_Chunks):
    """As an iterator."""

    _stream: SyncStream

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        while self._hides(chunk := next(self._stream)):
            pass
        return chunk

    def close(self) -> None:
        """Stop reading, give back the connection, and book what was seen."""
        try:
            self._stream.close()
        finally:
            close = getattr(getattr(self._source, "completion_stream", None), "close", None)
            if close is not None:
                close()

    def __enter__(self) -> SyncChunks:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class AsyncChunks(_Chunks):
    """As an async iterator."""

    _stream: AsyncStream

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while self._hides(chunk := await anext(self._stream)):
            pass
        return chunk

    async def aclose(self) -> None:
        """Stop reading, give back the connection, and book what was seen."""
        await self._stream.aclose()

    close = aclose

    async def __aenter__(self) -> AsyncChunks:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


def is_only_usage(chunk: Any) -> bool:
    """Whether a chunk bears the usage of its stream and nothing else."""
    return bool(get(chunk, "usage")) and not any(map(_says, items_of(get(chunk, "choices"))))


def _says(choice: Any) -> bool:
    """Whether a choice of a chunk has something for its reader: a text, a call of a tool, an end."""
    delta = get(choice, "delta")
    said = (get(choice, name) for name in ("text", "finish_reason"))
    return any(said) or any(get(delta, name) for name in ("content", "role", "tool_calls", "function_call", "refusal"))
