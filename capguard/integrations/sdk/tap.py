"""The tap on a response of a sync client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from capguard.dropped import outside_the_collector
from capguard.integrations.sdk.body import Body

if TYPE_CHECKING:
    from capguard.integrations.sdk.replies import Replies


class Tap(Body):
    """From its making on, the response is metered."""

    def __init__(self, replies: Replies, response: Any):
        super().__init__(replies, response)
        self._bytes, self._close = response.iter_bytes, response.close
        response.iter_raw = self.raw(response.iter_raw)
        response.iter_bytes, response.close = self._iter_bytes, self._closed
        self._size: int | None = None
        source = self._source()
        self._metered = self.call.metered_sync(source, **self.meters()) if self.is_stream else source

    def _iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        if self.begun:  # the response says itself what a second reading gives
            yield from self._bytes(chunk_size)
            return
        self.begun, self._size = True, chunk_size
        try:
            for chunk in self._metered:
                passed = self.passes(chunk)
                if self.done:
                    self._end(whole=True)
                if passed:
                    yield passed
            if rest := self.tail():
                yield rest
        finally:
            self._end(whole=False)

    def _source(self) -> Iterator[bytes]:
        """The response's own bytes; while it is inside, its closing is part of its reading."""
        chunks = self._bytes(self._size)
        while True:
            self.reading = True
            try:
                chunk = next(chunks)
            except StopIteration:
                return
            finally:
                self.reading = False
            yield chunk

    def _closed(self) -> None:
        try:
            self._close()
        finally:
            if not self.reading:
                self._end(whole=False)

    def _end(self, *, whole: bool) -> None:
        if self.ended:
            return
        self.ended = True
        if self.is_stream:
            self.call.finish_stream(whole=whole)
        else:
            outside_the_collector(self._book_body)

    def _book_body(self) -> None:
        self.call.begin()
        self.record()
        self.call.finish()
