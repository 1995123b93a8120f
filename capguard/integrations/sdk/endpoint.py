"""What one endpoint of a provider takes: which fields of its body are read, and where a decision is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from capguard.arguments import OUTPUT_LIMITS

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint that bills: `reads` maps an argument of `Guard.call` to the field of the body that says it.

    `limits` are its names for the output limit, none where it has none. `usage_on_request`: its streams report their
    usage only where `stream_options` ask for it. `draws`: its replies are images.
    """

    path: str
    reads: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    usage_on_request: bool = False
    draws: bool = False

    def asks(self, body: Body) -> dict[str, Any]:
        """The arguments of `Guard.call` that say what `body` asks."""
        asked = {name: value for name, source in self.reads.items() if (value := body.get(source)) is not None}
        return asked | {name: value for name in self.limits if (value := body.get(name)) is not None}

    def decided(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of the body that a decision sets, under the names that this endpoint knows."""
        return {self._field(name): value for name, value in params.items() if name not in OUTPUT_LIMITS or self.limits}

    def _field(self, name: str) -> str:
        return self.limits[0] if name in OUTPUT_LIMITS and name not in self.limits else name


@dataclass(frozen=True, slots=True)
class Api:
    """What one SDK's client can call: the endpoints under caps, and those that bill and are not.

    `package` is the SDK's; `clients` names its classes for the error of who gives another thing.
    """

    package: str
    clients: str
    endpoints: tuple[Endpoint, ...]
    unmetered: tuple[str, ...]

    def endpoint(self, method: str, url: str) -> Endpoint | None:
        """The endpoint under caps that a request goes to, None for one that is free or unknown."""
        path = _path(url)
        billed = method.lower() == "post"
        return next((each for each in self.endpoints if billed and each.path == path), None)

    def is_unmetered(self, method: str, url: str) -> bool:
        """Whether a request is billed by the provider, and no cap can hold it."""
        path = _path(url)
        return method.lower() == "post" and any(path == each or path.startswith(f"{each}/") for each in self.unmetered)


def _path(url: str) -> str:
    return url.partition("?")[0].rstrip("/")
