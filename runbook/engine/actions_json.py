"""Actions and observations to the journal's JSON and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter

from runbook.model.actions import Action

_ACTIONS: TypeAdapter[list[Action]] = TypeAdapter(list[Action])


def to_json(value: BaseModel) -> dict[str, Any]:
    """A model as JSON values, defaults left out."""
    return value.model_dump(mode="json", exclude_defaults=True) | (
        {"action": value.action} if hasattr(value, "action") else {}
    )


def actions_from_json(data: Sequence[Mapping[str, Any]]) -> list[Action]:
    return _ACTIONS.validate_python([dict(item) for item in data])
