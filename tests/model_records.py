"""Records of models that tests write and read."""

from collections.abc import Mapping, Sequence
from typing import Any

from medseg.config import InferenceConfig
from medseg.inferers.model_record import ModelRecord
from medseg.labels import Labels
from medseg.plan import Plan


def record_of(
    plan: Plan, labels: Labels | Mapping[str, int], channels: Sequence[str] = ("image",), **fields: Any
) -> ModelRecord:
    """The record of a model of which nothing else is known. ``labels`` may be values by name."""
    known = labels if isinstance(labels, Labels) else Labels.from_names(dict(labels))
    usual: dict[str, Any] = {"medseg": "0", "inference": InferenceConfig(), "provenance": {}, "metrics": {}}
    return ModelRecord(plan=plan, labels=known, channels=tuple(channels), **{**usual, **fields})
