"""The tap on a response of an async client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from capguard.integrations.sdk.body import Body

if TYPE_CHECKING:
    from capguard.integrations.sdk.replies import Replies


class AsyncTap(Body):
    """From its making on, the response is metered."""

    def __init__(self, replies: Replies, response: Any):
        super().__init__(replies, response)
        self._bytes, self._close = response.aiter_bytes, response.aclose
        response.aiter_raw = self.raw(response.aiter_raw)
        response.aiter_bytes, response.aclose = self._aiter_bytes, self._closed
        self._size: int | None = None
        source = self._source()
        self._metered = self.call.metered_async(source, **self.meters()) if self.is_stream else source

    async def _aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        if self.begun:  # the response says itself what a second reading gives
            async for chunk in self._bytes(chunk_size):
                yield chunk
            return
        self.begun, self._size = True, chunk_size
        try:
            async for chunk in self._metered:
                passed = self.passes(chunk)
                if self.done:
                    await self._end(whole=True)
                if passed:
                    yield passed
            if rest := self.tail():
                yield rest
        finally:
            await self._end(whole=False)

    async def _source(self) -> AsyncIterator[bytes]:
        """The response's own bytes; while it is inside, its closing is part of its reading."""
        chunks = self._bytes(self._size)
        while True:
            self.reading = True
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            finally:
                self.reading = False
            yield chunk

    async def _closed(self) -> None:
        try:
            await self._close()
        finally:
            if not self.reading:
                await self._end(whole=False)

    async def _end(self, *, whole: bool) -> None:
        if self.ended:
            return
        self.ended = True
        if self.is_stream:
            await self.call.afinish_stream(whole=whole)
        else:
            await self.call.abegin()
            self.record()
            await self.call.afinish()
