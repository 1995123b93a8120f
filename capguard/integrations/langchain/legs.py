"""The models that may serve one call: the one that is asked, the cheaper ones, and those that the policy leads to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core.language_models.chat_models import BaseChatModel

from capguard.arguments import read_request
from capguard.call import Call
from capguard.errors import CapExceeded
from capguard.guard import Guard
from capguard.integrations.langchain.asked import asked, limit_name
from capguard.integrations.langchain.who import Who
from capguard.policy.document import Cap

_NAME_FIELDS = ("model_name", "model")


class Leg(NamedTuple):
    """One model, and the call that holds for it. Once that is reserved, `model` and `settings` say what to call."""

    call: Call
    asked: BaseChatModel
    models: Sequence[BaseChatModel]
    params: Mapping[str, Any]

    @property
    def model(self) -> BaseChatModel:
        """The model that was asked, or the one that a downgrade of the policy chose."""
        chosen = self.call.model
        if chosen is None or chosen == name_of(self.asked, self.params):
            return self.asked
        given = (model for model in self.models if name_of(model) == chosen)
        return next(given, None) or renamed(self.asked, chosen)

    @property
    def settings(self) -> dict[str, Any]:
        """What to pass to the model besides: the output limit, where a clamp has lowered or set it."""
        limit = self.call.params.get("max_tokens")
        unchanged = limit is None or limit == asked(self.params, {}).get("max_tokens")
        return {} if unchanged else {limit_name(self.params): limit}


class Legs:
    """What every call through one adapter has in common."""

    def __init__(self, guard: Guard, who: Who, caps: Iterable[Cap] = ()):
        self._guard = guard
        self._who = who
        self._caps = list(caps)

    def of(
        self,
        models: Sequence[BaseChatModel],
        messages: Sequence[Any],
        params: Mapping[str, Any],
        metadata: Mapping[str, Any],
        *,
        others: Sequence[BaseChatModel] = (),
        tags: Mapping[str, str] | None = None,
    ) -> list[Leg]:
        """A leg for each of `models`, to be tried in turn. `others` serve only where the policy leads to them.

        `params` are those of this one call: tools, an output limit, a model's name that goes before the model's own.
        """
        identity = self._who.identity(metadata)
        said = {"messages": messages, "identity": identity, "caps": self._caps}
        if tags:
            said["tags"] = {**identity.tags, **tags}
        legs = []
        for place, model in enumerate(models):
            own = params if place == 0 else {name: value for name, value in params.items() if name != "model"}
            own = {**invocation(model), **own}
            told = {**asked(own, {}), "model": name_of(model, own), **said}
            request = read_request(told, rewritable=can_be_renamed(model))
            legs.append(Leg(Call(self._guard, request), model, (*models, *others), own))
        return legs


def hold(legs: Sequence[Leg]) -> Leg:
    """The first leg that its caps let through, reserved and to be entered. Raises the last one's CapExceeded."""
    for leg in legs[:-1]:
        try:
            leg.call.begin()
        except CapExceeded:
            continue
        return _begun(leg)
    legs[-1].call.begin()
    return _begun(legs[-1])


async def ahold(legs: Sequence[Leg]) -> Leg:
    """As `hold`, without blocking the event loop."""
    for leg in legs[:-1]:
        try:
            await leg.call.abegin()
        except CapExceeded:
            continue
        return _begun(leg)
    await legs[-1].call.abegin()
    return _begun(legs[-1])


def _begun(leg: Leg) -> Leg:
    leg.call.go_on()
    return leg


def invocation(model: BaseChatModel) -> dict[str, Any]:
    """The parameters that a model was made with: its output limit among them."""
    return model._get_invocation_params()


def name_of(model: BaseChatModel, params: Mapping[str, Any] | None = None) -> str | None:
    """The name of a model, as its provider and its price list know it; one that the call says goes before."""
    told = model._get_ls_params(**_named(params or {}))
    found = told.get("ls_model_name") or next((getattr(model, each, None) for each in _NAME_FIELDS), None)
    return found if isinstance(found, str) and found else None


def _named(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": params["model"]} if isinstance(params.get("model"), str) else {}


def can_be_renamed(model: BaseChatModel) -> bool:
    """Whether there is a field with the model's name, which may be another's of the same provider."""
    return _name_field(model) is not None


def renamed(model: BaseChatModel, name: str) -> BaseChatModel:
    """The same model under another name."""
    field = _name_field(model)
    assert field is not None
    return model.model_copy(update={field: name})


def _name_field(model: BaseChatModel) -> str | None:
    fields = type(model).model_fields
    return next((each for each in _NAME_FIELDS if each in fields and isinstance(getattr(model, each), str)), None)
