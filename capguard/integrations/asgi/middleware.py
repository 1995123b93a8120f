"""The middleware: whose request it is, whether it may come in, and what its refusals and its streams come to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

from capguard.default import default_guard
from capguard.errors import BackendUnavailable, CapExceeded, IdentityMissing
from capguard.guard import Guard
from capguard.identity import Identity, context
from capguard.identity import identify as identified
from capguard.integrations.asgi import problems
from capguard.integrations.asgi.answer import Answer
from capguard.integrations.asgi.culprit import culprit
from capguard.integrations.asgi.headers import tell
from capguard.integrations.asgi.paths import Paths
from capguard.integrations.asgi.problems import Problem
from capguard.integrations.asgi.protocol import App, Message, Receive, Scope, Send
from capguard.integrations.asgi.proxies import TrustedHeaders
from capguard.integrations.asgi.request import RequestState
from capguard.integrations.asgi.websocket import Socket
from capguard.integrations.asgi.who import ANONYMOUS, Identify, Plans, Who
from capguard.watch import Watch, watched


class CapguardMiddleware:
    """Caps for an ASGI application. Everything inside of a request has its identity, and a refusal one clean answer.

    `identify(scope)`, sync or async, returns an `Identity`, a mapping of its fields, or None. Without it, or where it
    leaves a field open, the authenticated user, `scope["state"]`, the session and trusted headers are asked; whoever
    remains unknown is `anonymous`. `plans` maps permissions to plans, or is called with the user. `trusted_headers`
    maps fields to headers that are believed from `trusted_proxies` only.

    With `precheck` a user whose block cap is spent is refused at the door. `paths` are those that call models, where
    that is done, all by default; `exclude` are left alone altogether. A path means itself and what is below it.

    `CapExceeded` becomes a 429 as `application/problem+json`, `BackendUnavailable` a 503; in a stream of events that
    has begun, an `error` event; a websocket closes with 1008. With `headers`, responses tell what is used.
    """

    def __init__(
        self,
        app: App,
        guard: Guard | None = None,
        identify: Identify | None = None,
        plans: Plans | None = None,
        paths: Iterable[str] | None = None,
        exclude: Iterable[str] | None = None,
        *,
        precheck: bool = True,
        headers: bool = False,
        trusted_headers: Mapping[str, str] | None = None,
        trusted_proxies: Iterable[str] | None = None,
    ):
        if guard is not None and not isinstance(guard, Guard):
            raise TypeError(f"guard={guard!r:.60}: allowed: a Guard, or none for that of `configure`")
        self.app = app
        self._guard = guard
        self._who = Who(identify, plans, TrustedHeaders(trusted_headers, trusted_proxies))
        self._paths = None if paths is None else Paths(paths, "paths")
        self._exclude = Paths(exclude or (), "exclude")
        self._precheck = precheck
        self._headers = headers

    @property
    def guard(self) -> Guard:
        return self._guard or default_guard()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        serve = {"http": self._http, "websocket": self._websocket}.get(scope["type"])
        if serve is None or scope["path"] in self._exclude:
            await self.app(scope, receive, send)
            return
        try:
            identity = await self._who.identity(scope)
        except Exception as error:
            problem = problems.of_nobody(error)
            if problem is None:
                raise
            await _refuse(scope, problem, send)
            return
        if (problem := await self._at_the_door(scope, identity)) is not None:
            await _refuse(scope, problem, send)
            return
        async with identified(identity):
            watch = Watch(self.guard)
            RequestState(context(), watch).put_into(scope)
            with watched(watch):
                try:
                    await serve(scope, receive, send, watch)
                finally:
                    await watch.sweep()

    async def _http(self, scope: Scope, receive: Receive, send: Send, watch: Watch) -> None:
        decorate: Callable[[Message], Awaitable[None]] | None = partial(tell, self.guard) if self._headers else None
        answer = Answer(send, watch, lambda error: problems.of_error(error, self.guard.policy), decorate)
        try:
            await self.app(scope, receive, answer.send)
        except Exception as error:
            if not await answer.ended(error):
                raise
        else:
            await answer.ended(None)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send, watch: Watch) -> None:  # noqa: ARG002
        socket = Socket(send)
        try:
            await self.app(scope, receive, socket.send)
        except Exception as error:
            refused = culprit(error)
            if refused is None:
                raise
            await socket.close(problems.of_error(refused, self.guard.policy))

    async def _at_the_door(self, scope: Scope, identity: Identity) -> Problem | None:
        """The refusal of a user whose cap is spent. Whoever is not known yet may be named by a dependency later."""
        here = self._paths is None or scope["path"] in self._paths
        if not (self._precheck and here) or identity.user == ANONYMOUS.user:
            return None
        try:
            spent = await self.guard.aexhausted(identity=identity)
        except (BackendUnavailable, IdentityMissing):  # the calls inside decide, as the policy says
            return None
        return problems.of_refusal(CapExceeded(spent), self.guard.policy) if spent else None


async def _refuse(scope: Scope, problem: Problem, send: Send) -> None:
    if scope["type"] == "websocket":
        await Socket(send).close(problem)
    else:
        await problem.answer(send)
