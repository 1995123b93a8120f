"""The base of every object of a policy: frozen, no unknown keys, and refused with all findings at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator

from capguard.errors import Finding, PolicyError
from capguard.policy.findings import did_you_mean, findings_of, place_of, shown

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


class _Refusing(ModelMetaclass):
    """Lets a constructor raise `PolicyError` where pydantic would raise its own error."""

    def __call__(cls, *args: Any, **fields: Any) -> Any:  # noqa: N805 - a metaclass, its base is dynamic
        try:
            return super().__call__(*args, **fields)
        except ValidationError as error:
            raise PolicyError(findings_of(error)) from None


class PolicyObject(BaseModel, metaclass=_Refusing):
    """A part of a policy. Constructing it with bad values raises `PolicyError` that lists every finding."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="wrap")
    @classmethod
    def _all_at_once(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(data, cls):
            return handler(data)
        if isinstance(data, PolicyObject):
            data = written(data)
        if not isinstance(data, Mapping):
            raise PolicyError([Finding("", shown(data), f"a table with the keys {cls.allowed_keys()}")])
        unknown = [key for key in data if not cls.knows(key)]
        findings = [cls._unknown(key) for key in unknown]
        known = {key: value for key, value in data.items() if key not in unknown}
        findings += cls.rules(known)
        try:
            made = handler(known)
        except ValidationError as error:
            findings = findings_of(error, known) + findings
        if findings:
            raise PolicyError(findings)
        return made

    @classmethod
    def knows(cls, key: object) -> bool:
        """Whether `key` may stand in this table."""
        return key in cls.model_fields

    @classmethod
    def allowed_keys(cls) -> str:
        return ", ".join(cls.model_fields)

    @classmethod
    def rules(cls, data: Mapping[str, Any]) -> Iterable[Finding]:  # noqa: ARG003 - for those that override it
        """What is wrong between the fields of `data`, which is as written and not yet validated."""
        return ()

    @classmethod
    def _unknown(cls, key: object) -> Finding:
        place = place_of([key]) if isinstance(key, str) else ""
        return Finding(place, f"unknown key {shown(key)}{did_you_mean(key, cls.model_fields)}", cls.allowed_keys())


def written(part: BaseModel) -> dict[str, Any]:
    """The fields of `part` that were given, by name; those left to their default are not there."""
    return {name: value for name, value in part if name in part.model_fields_set}
