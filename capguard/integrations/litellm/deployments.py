"""The deployments of a Router: which one it picks for a group, and which one serves a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from capguard.integrations.litellm import host


class Deployment(NamedTuple):
    """A deployment: its id, by which it is called alone, its group, the model whose price holds, its arguments."""

    id: str
    group: str
    model: str
    params: Mapping[str, Any]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Deployment:
        """From an entry of a Router's `model_list`. An Azure deployment's price is that of its base model."""
        params, info = entry["litellm_params"], entry.get("model_info") or {}
        model = info.get("base_model") or params.get("base_model") or params["model"]
        return cls(info["id"], entry["model_name"], model, params)

    def serves(self, model: str) -> bool:
        return model.rpartition("/")[2] == self.model.rpartition("/")[2]


class Deployments:
    """Those of one Router, asked for with its own health, cooldowns and strategy."""

    def __init__(self, router: Any):
        host.require(router, ("async_get_available_deployment", "get_model_list"), "the Router")
        self._router = router

    async def pick(self, group: str, kwargs: dict[str, Any]) -> Deployment:
        """What the Router picks for a call to `group`. Raises as the Router does where none is healthy."""
        entry = await self._router.async_get_available_deployment(
            model=group,
            request_kwargs=kwargs,
            messages=kwargs.get("messages"),
            input=kwargs.get("input"),
            specific_deployment=kwargs.pop("specific_deployment", None),
        )
        return Deployment.of(entry)

    async def serving(self, model: str, kwargs: dict[str, Any]) -> Deployment | None:
        """One that serves `model`; None where the Router has none."""
        fitting = self.first_serving(model)
        if fitting is None:
            return None
        picked = await self.pick(fitting.group, dict(kwargs))
        return picked if picked.serves(model) else fitting

    def first_serving(self, model: str) -> Deployment | None:
        """The first that serves `model`, at the host that the name gives if there is one."""
        fitting = [each for each in self._all() if each.serves(model)]
        return min(fitting, key=lambda each: each.model != model, default=None)

    def first(self, group: str) -> Deployment | None:
        """The first of a group."""
        return next((each for each in self._all(group) if each.group == group), None)

    def _all(self, group: str | None = None) -> list[Deployment]:
        return [Deployment.of(entry) for entry in self._router.get_model_list(model_name=group) or ()]


def priced(kwargs: Mapping[str, Any]) -> str | None:
    """The model whose price holds for a call that is on its way to a deployment."""
    info = kwargs.get("model_info")
    base = info.get("base_model") if isinstance(info, Mapping) else None
    return base or kwargs.get("base_model") or host.full_name(kwargs)
