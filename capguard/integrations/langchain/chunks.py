"""The pieces of a stream as a model gives them, with what LangChain adds to them only later: whether it is the last."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any

from langchain_core.outputs import ChatGenerationChunk


def told(chunks: Iterator[ChatGenerationChunk]) -> Iterator[ChatGenerationChunk]:
    """Each chunk, with its finish reason where the meter looks for it."""
    source: Any = chunks
    with closing(source):
        for chunk in source:
            yield _with_its_end(chunk)


async def atold(chunks: AsyncIterator[ChatGenerationChunk]) -> AsyncIterator[ChatGenerationChunk]:
    """As `told`."""
    source: Any = chunks
    async with aclosing(source):
        async for chunk in source:
            yield _with_its_end(chunk)


def _with_its_end(chunk: ChatGenerationChunk) -> ChatGenerationChunk:
    chunk.message.response_metadata = {**(chunk.generation_info or {}), **chunk.message.response_metadata}
    return chunk
