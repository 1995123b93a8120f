"""Who is calling: the fields, and the context that carries them into every adapter.

For every field the precedence is: explicit argument > context (`identify`) > what the host framework carries. The
context variable holds a mutable box, so that a dependency which runs later, even in a worker thread, can complete it.
"""

from __future__ import annotations

import contextvars
import threading
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from capguard.call import Call
    from capguard.policy.document import Cap

P = ParamSpec("P")
T = TypeVar("T")

MAX_LENGTH = 256
"""Characters in one identity value; more is refused, never cut."""

MAX_TAGS = 32

FIELDS = ("user", "plan", "org", "team", "key_id", "feature", "session")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling. Every value is text of at most 256 characters without control characters, or None.

    Raises ValueError for anything else. Every other character is ordinary: `:`, `{`, quotes and spaces never collide.
    """

    user: str | None = None
    plan: str | None = None
    org: str | None = None
    team: str | None = None
    key_id: str | None = None
    feature: str | None = None
    session: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in FIELDS:
            value = getattr(self, name)
            if value is not None:
                checked_name(value, name)
        if self.tags:
            _check_tags(self.tags)

    def value(self, field_name: str) -> str | None:
        """The value of a `per` or `match` field: a field's name, or `tag:<name>`."""
        if field_name.startswith("tag:"):
            return self.tags.get(field_name[4:])
        found: str | None = getattr(self, field_name)
        return found

    def over(self, other: Identity) -> Identity:
        """Both together; where both name a field, this one's value."""
        if other is NOBODY:
            return self
        merged = {name: getattr(self, name) or getattr(other, name) for name in FIELDS}
        return Identity(**merged, tags={**other.tags, **self.tags} if other.tags else self.tags)

    def to_dict(self) -> dict[str, str]:
        """The fields that are set, tags as `tag:<name>`."""
        named = {name: value for name in FIELDS if (value := getattr(self, name)) is not None}
        return named | {f"tag:{name}": value for name, value in self.tags.items()} if self.tags else named


NOBODY = Identity()


def checked_name(value: object, what: str) -> str:
    """`value` if it can name somebody or something, else ValueError that says what is allowed."""
    if not isinstance(value, str):
        raise ValueError(f"{what}: {type(value).__name__} is not text; allowed: 1 to {MAX_LENGTH} characters")
    if value.isascii() and value.isprintable() and 0 < len(value) <= MAX_LENGTH:
        return value
    if not 0 < len(value) <= MAX_LENGTH:
        raise ValueError(f"{what}: {len(value)} characters; allowed: 1 to {MAX_LENGTH}")
    bad = next((char for char in value if unicodedata.category(char) in ("Cc", "Cs")), None)
    if bad is not None:
        raise ValueError(
            f"{what}: the character U+{ord(bad):04X} is refused; allowed: no control characters, no surrogates"
        )
    return value


def _check_tags(tags: Mapping[str, str]) -> None:
    if not isinstance(tags, Mapping) or len(tags) > MAX_TAGS:
        raise ValueError(f"tags: allowed: a mapping of at most {MAX_TAGS} names to text")
    for name, value in tags.items():
        checked_name(name, "a tag's name")
        checked_name(value, f"tag {name!r}")


def identity_of(source: Identity | Mapping[str, Any] | None) -> Identity:
    """An Identity from what a resolver returned. Unknown keys raise ValueError naming the allowed ones."""
    if source is None:
        return NOBODY
    if isinstance(source, Identity):
        return source
    if not isinstance(source, Mapping):
        raise ValueError(f"identity: {type(source).__name__}; allowed: an Identity or a mapping of its fields")
    allowed = [each.name for each in fields(Identity)]
    unknown = sorted(set(source) - set(allowed))
    if unknown:
        raise ValueError(f"identity: unknown field {', '.join(map(repr, unknown))}; allowed: {', '.join(allowed)}")
    return Identity(**source)


class Box:
    """What one context knows about its caller. Shared, not copied, by everything that runs inside."""

    __slots__ = ("caps", "identity")

    def __init__(self, identity: Identity = NOBODY, caps: tuple[Cap, ...] = ()):
        self.identity = identity
        self.caps = caps

    def with_(self, identity: Identity, caps: tuple[Cap, ...]) -> Box:
        """A new box that knows more: fields of `identity` win."""
        return Box(identity.over(self.identity), self.caps + caps)

    def complete(self, identity: Identity, caps: tuple[Cap, ...]) -> None:
        """Let everything that shares this box know more: fields of `identity` win."""
        with _completing:
            self.identity, self.caps = identity.over(self.identity), self.caps + caps


_completing = threading.Lock()


_box: contextvars.ContextVar[Box | None] = contextvars.ContextVar("capguard_identity", default=None)
_open_call: contextvars.ContextVar[Call | None] = contextvars.ContextVar("capguard_call", default=None)


def context() -> Box:
    """The box of the current context, an empty one where nobody is identified."""
    return _box.get() or Box()


class identify:  # noqa: N801 - used as a statement: `with identify(user="u1"):`
    """Name the caller for everything inside, or complete the identity of the context that is already open.

        with identify(user="u1", plan="pro"):        # a scope of its own
            ...
        identify(plan="pro")                         # completes the scope that a middleware opened

    Fields given here win over fields of the outer scope. Raises ValueError as `Identity` does.
    """

    _scope = True

    def __init__(self, identity: Identity | None = None, *, caps: Iterable[Cap] = (), **named: Any):
        given = identity_of(identity)
        self._given = identity_of(named).over(given) if named else given
        self._caps = tuple(caps)
        self._outer = _box.get()
        self._inner = (self._outer or Box()).with_(self._given, self._caps)
        self._scope = False
        _box.set(self._inner)

    def __del__(self) -> None:
        """A statement ends here, as one that is entered does not: only now is it told from the head of a `with`.

        What others share must not change before: another thread would take this caller for its own.
        """
        if not self._scope and self._outer is not None:
            self._outer.complete(self._given, self._caps)
            if _box.get() is self._inner:
                _box.set(self._outer)

    def __enter__(self) -> Identity:
        self._scope = True
        _box.set(self._inner)
        return self._inner.identity

    def __exit__(self, *_exc: object) -> None:
        if _box.get() is self._inner:
            _box.set(self._outer)

    async def __aenter__(self) -> Identity:
        return self.__enter__()

    async def __aexit__(self, *exc: object) -> None:
        self.__exit__(*exc)


def carry(function: Callable[P, T]) -> Callable[P, T]:
    """`function` with today's context, for thread pools: `pool.submit(carry(work), x)`. It may run many times."""
    here = contextvars.copy_context()

    def carried(*args: P.args, **kwargs: P.kwargs) -> T:
        return here.copy().run(function, *args, **kwargs)

    return carried


def open_call() -> Call | None:
    """The innermost call that is still open in this context."""
    call = _open_call.get()
    while call is not None and call.closed:
        call = call.outer
    return call


def enter_call(call: Call) -> None:
    """Make `call` the innermost open one."""
    call.outer = _open_call.get()
    _open_call.set(call)


def swap_call(call: Call | None) -> Call | None:
    """Make `call` the innermost open one, and give back the one that was."""
    before = _open_call.get()
    _open_call.set(call)
    return before


def leave_call(call: Call) -> None:
    """Undo `enter_call`, unless the block is left in another context than it was entered in."""
    if _open_call.get() is call:
        _open_call.set(call.outer)
