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
        all_of_them = [Deployment.of(entry) for entry in self._router.get_model_list() or ()]
        fitting = sorted((each for each in all_of_them if each.serves(model)), key=lambda each: each.model != model)
        if not fitting:
            return None
        picked = await self.pick(fitting[0].group, dict(kwargs))
        return picked if picked.serves(model) else fitting[0]
