"""`@capped`: a function that calls a model is reserved before it runs and booked by what it returns or yields."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from typing import Any, TypeVar, overload

from capguard.arguments import OUTPUT_LIMITS, read_request
from capguard.call import Call
from capguard.default import default_guard
from capguard.guard import Guard
from capguard.identity import open_call
from capguard.pricing.responses import read_usage

F = TypeVar("F", bound=Callable[..., Any])
Value = str | Callable[[Mapping[str, Any]], Any] | None

_WHO = ("user", "plan", "org", "team", "key_id", "feature", "session")
_SAME_NAME = ("model", "messages", "prompt", *OUTPUT_LIMITS)
_NAMES = (*_WHO, "model", "messages", "prompt", "max_tokens", "cost")
_LITERALS = ("model", "feature", "cost")


def current_call() -> Call:
    """The call around this code. Raises LookupError outside of one."""
    call = open_call()
    if call is None:
        raise LookupError("no capped call is open here")
    return call


@overload
def capped(guard: F) -> F: ...
@overload
def capped(
    guard: Guard | None = None,
    *,
    user: Value = None,
    plan: Value = None,
    org: Value = None,
    team: Value = None,
    key_id: Value = None,
    feature: Value = None,
    session: Value = None,
    model: Value = None,
    messages: Value = None,
    prompt: Value = None,
    max_tokens: Value = None,
    cost: Any = None,
) -> Callable[[F], F]: ...
def capped(guard: Any = None, **values: Any) -> Any:
    """Cap a function, coroutine, generator, async generator or method that makes one call to a model.

    Each value names an argument of the function, or is a callable on the mapping of its bound arguments. `model`,
    `messages`, `prompt` and `max_tokens` are found by themselves where arguments bear these names. `model`, `feature`
    and `cost` may also be said outright: `feature="chat"`, `cost="0.02"`. The identity comes from `identify` otherwise.

    A downgrade rewrites the model argument; where there is none, downgrade caps let the call pass. What is returned or
    yielded is read for its usage, and metered where it is a stream; `current_call().settle(reply)` inside says it
    outright. Raises TypeError at decoration for an argument that the function does not have.
    """
    if callable(guard) and not isinstance(guard, Guard):
        return _capped(guard, None, {})
    if guard is not None and not isinstance(guard, Guard):
        raise TypeError(f"@capped({guard!r:.60}): allowed: a Guard, or none for that of `configure`")
    if unknown := values.keys() - set(_NAMES):
        raise TypeError(f"@capped: unknown {', '.join(sorted(unknown))}; allowed: {', '.join(_NAMES)}")
    given = {name: value for name, value in values.items() if value is not None}
    return lambda function: _capped(function, guard, given)


def _capped(function: Any, guard: Guard | None, values: Mapping[str, Any]) -> Any:
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(_capped(function.__func__, guard, values))
    return _wrapped(function, _Reader(function, guard, values))


class _Reader:
    """Reads the arguments of one function: what they say of the call, and where the chosen model goes."""

    def __init__(self, function: Callable[..., Any], guard: Guard | None, values: Mapping[str, Any]):
        self.signature = inspect.signature(function)
        names = self.signature.parameters
        known = {name: name for name in _SAME_NAME if name in names}
        if set(known) & set(OUTPUT_LIMITS) and "max_tokens" in values:
            known = {name: source for name, source in known.items() if name not in OUTPUT_LIMITS}
        self._sources = {**known, **values}
        self._guard = guard
        for name, source in self._sources.items():
            if isinstance(source, str) and source not in names and name not in _LITERALS:
                who = getattr(function, "__qualname__", repr(function))
                raise TypeError(
                    f"@capped({name}={source!r}): {who} has no argument {source!r}; allowed: a callable on the"
                    f" arguments, or one of {', '.join(names) or 'none'}"
                )
        model = self._sources.get("model")
        self._model = model if isinstance(model, str) and model in names else None

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Call, inspect.BoundArguments]:
        """The call that these arguments make, not reserved yet. Raises TypeError for arguments that do not bind."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        found = {name: self._value(source, bound.arguments) for name, source in self._sources.items()}
        said = {name: value for name, value in found.items() if value is not None}
        if not said.keys() - set(_WHO):
            said["amount"], said["unit"] = 1, "requests"
        guard = self._guard or default_guard()
        return Call(guard, read_request(said, rewritable=self._model is not None)), bound

    def rewrite(self, call: Call, bound: inspect.BoundArguments) -> None:
        """Put the model that was chosen, and the output limit, where the function reads them."""
        for name, value in call.params.items():
            target = self._model if name == "model" else self._sources.get(name)
            if isinstance(target, str) and target in bound.arguments:
                bound.arguments[target] = value

    @staticmethod
    def _value(source: Any, arguments: Mapping[str, Any]) -> Any:
        if callable(source):
            return source(arguments)
        return arguments[source] if isinstance(source, str) and source in arguments else source


def _wrapped(function: Callable[..., Any], reader: _Reader) -> Callable[..., Any]:
    """One wrapper per kind, so that the kind survives: frameworks look at it."""
    named = inspect.isroutine(function) or isinstance(function, functools.partial)
    code = function if named else type(function).__call__
    if inspect.isasyncgenfunction(code):
        wrapper: Callable[..., Any] = _async_generator(function, reader)
    elif inspect.isgeneratorfunction(code):
        wrapper = _generator(function, reader)
    elif inspect.iscoroutinefunction(code):
        wrapper = _coroutine(function, reader)
    else:
        wrapper = _plain(function, reader)
    return functools.update_wrapper(wrapper, function)


def _plain(function: Callable[..., Any], reader: _Reader) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call, bound = reader.call(args, kwargs)
        with call:
            reader.rewrite(call, bound)
            result = function(*bound.args, **bound.kwargs)
            if not inspect.isawaitable(result):
                return _read(call, result)
            call.go_on()
        return _awaited(call, result)

    return wrapper


async def _awaited(call: Call, result: Awaitable[Any]) -> Any:
    async with call:
        return _read(call, await result)


def _coroutine(function: Callable[..., Any], reader: _Reader) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call, bound = reader.call(args, kwargs)
        async with call:
            reader.rewrite(call, bound)
            return _read(call, await function(*bound.args, **bound.kwargs))

    return wrapper


def _generator(function: Callable[..., Any], reader: _Reader) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call, bound = reader.call(args, kwargs)
        call.begin()
        reader.rewrite(call, bound)
        stream = call.metered_sync(function(*bound.args, **bound.kwargs), inside=True)
        try:
            return (yield from stream)
        finally:
            stream.close()

    return wrapper


def _async_generator(function: Callable[..., Any], reader: _Reader) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call, bound = reader.call(args, kwargs)
        await call.abegin()
        reader.rewrite(call, bound)
        stream = call.metered_async(function(*bound.args, **bound.kwargs), inside=True)
        step = anext(stream)
        try:
            while True:  # what `yield from` does for a generator
                try:
                    chunk = await step
                except StopAsyncIteration:
                    return
                try:
                    sent = yield chunk
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown in, and the source's to handle
                    step = stream.athrow(error)
                else:
                    step = stream.asend(sent)
        finally:
            await stream.aclose()

    return wrapper


def _read(call: Call, result: Any) -> Any:
    """Record what a function returned: a response that tells its usage, a stream, or a response whose body is one."""
    if call.recorded:
        return result
    if hasattr(result, "__anext__") or hasattr(result, "__next__"):
        return call.stream(result)
    if hasattr(result, "body_iterator"):
        result.body_iterator = call.stream(result.body_iterator)
        return result
    if read_usage(result) is not None:
        call.settle(result)
    return result
