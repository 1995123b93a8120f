"""Streams that are metered as they pass: every chunk goes on unchanged, and whichever end comes books the call."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from capguard.identity import swap_call

if TYPE_CHECKING:
    from capguard.call import Call
    from capguard.pricing.stream import StreamReader


class _Metered:
    """What both kinds share: everything but iteration is the source's own.

    With `inside`, the source runs with the call as `current_call()`, step by step: between the steps the consumer's own
    context holds, so that its other calls are not taken for parts of this one, whatever calls the source has open.
    """

    def __init__(self, call: Call, source: Any, reader: StreamReader, *, inside: bool = False):
        self._call = call
        self._source = source
        self._inside = inside
        self._aside = call if inside else None
        self._reader = reader
        self._cut = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def _swap(self) -> None:
        """Between the consumer's open call and the source's: before a step and after it."""
        if self._inside:
            self._aside = swap_call(self._aside)

    def __del__(self) -> None:
        """A stream that was dropped books what was seen of it."""
        if "_reader" in self.__dict__:
            self._call.finish_stream(whole=False)


class SyncStream(_Metered):
    """A metered iterator. Closing it closes the source."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._step(lambda: next(self._iterator()))

    def send(self, value: Any) -> Any:
        """As a generator's, where the source is one."""
        return self._step(lambda: self._source.send(value))

    def throw(self, *error: Any) -> Any:
        """As a generator's, where the source is one; what is none stays as it is."""
        if not hasattr(self._source, "throw"):
            raise error[0]
        return self._step(lambda: self._source.throw(*error))

    def _step(self, advance: Callable[[], Any]) -> Any:
        if self._cut:
            self.close()
            raise StopIteration
        self._swap()
        try:
            chunk = advance()
        except StopIteration:
            self._end(None, whole=True)
            raise
        except BaseException as error:
            self._end(error, whole=False)
            raise
        finally:
            self._swap()
        self._reader.feed(chunk)
        self._cut = not self._call.passed()
        return chunk

    def _iterator(self) -> Iterator[Any]:
        if not hasattr(self._source, "__next__"):
            self._source = iter(self._source)
        return self._source  # type: ignore[no-any-return]

    def close(self) -> None:
        """Stop reading and book what was seen."""
        try:
            if close := getattr(self._source, "close", None):
                close()
        finally:
            self._end(None, whole=False)

    def __enter__(self) -> SyncStream:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _end(self, error: BaseException | None, *, whole: bool) -> None:
        self._call.finish_stream(error, whole=whole)


class AsyncStream(_Metered):
    """A metered async iterator. Closing it closes the source."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return await self._step(lambda: anext(self._aiterator()))

    async def asend(self, value: Any) -> Any:
        """As an async generator's, where the source is one."""
        return await self._step(lambda: self._source.asend(value))

    async def athrow(self, error: BaseException) -> Any:
        """As an async generator's, where the source is one."""
        return await self._step(lambda: self._source.athrow(error))

    async def _step(self, advance: Callable[[], Awaitable[Any]]) -> Any:
        if self._cut:
            await self.aclose()
            raise StopAsyncIteration
        self._swap()
        try:
            chunk = await advance()
        except StopAsyncIteration:
            await self._aend(None, whole=True)
            raise
        except BaseException as error:
            await self._aend(error, whole=False)
            raise
        finally:
            self._swap()
        self._reader.feed(chunk)
        self._cut = not await self._call.apassed()
        return chunk

    def _aiterator(self) -> AsyncIterator[Any]:
        if not hasattr(self._source, "__anext__"):
            self._source = aiter(self._source)
        return self._source  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """Stop reading and book what was seen."""
        try:
            close = getattr(self._source, "aclose", None) or getattr(self._source, "close", None)
            closing = None if close is None else close()
            if inspect.isawaitable(closing):
                await closing
        finally:
            await self._aend(None, whole=False)

    close = aclose

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def _aend(self, error: BaseException | None, *, whole: bool) -> None:
        await self._call.afinish_stream(error, whole=whole)
