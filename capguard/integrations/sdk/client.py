"""A client of an SDK under caps: a copy of it whose one `request` method holds before it sends, and books after."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from capguard.call import Call
from capguard.default import default_guard
from capguard.guard import Guard
from capguard.identity import identity_of
from capguard.integrations.sdk.asked import Asked
from capguard.integrations.sdk.endpoint import Api
from capguard.integrations.sdk.replies import Replies, of_failure

log = logging.getLogger("capguard")

ClientT = TypeVar("ClientT")

_MARK = "_capguard"


@dataclass(frozen=True)
class Capping:
    """How one client is capped: by which Guard, for whom, and what its streams do beyond their hold."""

    api: Api
    guard: Guard | None
    who: Mapping[str, Any]
    on_stream_exceeded: str
    warned: set[str] = field(default_factory=set)

    def cap(self, client: ClientT) -> ClientT:
        """A copy of `client` under these caps. It shares the connections; copies of the copy are capped as well."""
        plain: Any = client
        copy = getattr(plain, _MARK).copy if hasattr(plain, _MARK) else plain.copy
        capped: ClientT = self._dressed(copy(), copy)
        return capped

    def _dressed(self, plain: Any, copy: Callable[..., Any]) -> Any:
        send = plain.request
        made = plain.copy

        def again(**changes: Any) -> Any:
            fresh = made(**changes)
            return self._dressed(fresh, fresh.copy)

        plain.request = self._asynchronous(send) if inspect.iscoroutinefunction(send) else self._synchronous(send)
        plain.copy = plain.with_options = again
        setattr(plain, _MARK, Marked(self, copy))
        return plain

    def _synchronous(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def request(cast_to: Any, options: Any, **how: Any) -> Any:
            asked = self._asked(options)
            if asked is None:
                return send(cast_to, options, **how)
            with self._call(asked) as call, of_failure(call):
                return self._replies(asked, call).take(send(cast_to, asked.decided(call), **how))

        return request

    def _asynchronous(self, send: Callable[..., Any]) -> Callable[..., Any]:
        async def request(cast_to: Any, options: Any, **how: Any) -> Any:
            asked = self._asked(options)
            if asked is None:
                return await send(cast_to, options, **how)
            async with self._call(asked) as call:
                with of_failure(call):
                    return self._replies(asked, call).atake(await send(cast_to, asked.decided(call), **how))

        return request

    def _asked(self, options: Any) -> Asked | None:
        endpoint = self.api.endpoint(options.method, options.url)
        if endpoint is None and self.api.is_unmetered(options.method, options.url):
            self._warn(options.url)
        return None if endpoint is None else Asked.of(endpoint, options)

    def _call(self, asked: Asked) -> Call:
        return asked.call(self.guard or default_guard(), self.who)

    def _replies(self, asked: Asked, call: Call) -> Replies:
        return Replies(asked, call, self.on_stream_exceeded)

    def _warn(self, url: str) -> None:
        """Once for each endpoint: what is billed there is in no meter."""
        if url not in self.warned:
            self.warned.add(url)
            log.warning("capguard: POST %s is billed by the provider and not metered: no cap holds it", url)


@dataclass(frozen=True, slots=True)
class Marked:
    """What a capped client remembers: how it was capped, and how to copy the plain one."""

    capping: Capping
    copy: Callable[..., Any]


def cap_client(
    api: Api, client: ClientT, guard: Guard | None, on_stream_exceeded: str, who: Mapping[str, Any]
) -> ClientT:
    """A copy of `client` under caps. Raises TypeError for what is no client of this API, ValueError for the rest."""
    ours = any(base.__module__.partition(".")[0] == api.package for base in type(client).__mro__)
    if not ours or not callable(getattr(client, "request", None)):
        raise TypeError(f"cap({type(client).__name__}): allowed: {api.clients}")
    if guard is not None and not isinstance(guard, Guard):
        raise TypeError(f"cap(..., guard={guard!r:.60}): allowed: a Guard, or none for that of `configure`")
    if on_stream_exceeded not in ("finish", "cut"):
        raise ValueError(f"on_stream_exceeded: {on_stream_exceeded!r:.60} is refused; allowed: finish, cut")
    named = {name: value for name, value in who.items() if value is not None}
    identity_of({name: value for name, value in named.items() if name != "identity"})
    identity_of(named.get("identity"))
    if guard is None and (marked := getattr(client, _MARK, None)) is not None:
        guard = marked.capping.guard
    return Capping(api, guard, named, on_stream_exceeded).cap(client)
