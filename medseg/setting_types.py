"""Types of settings, as people write them: durations, ranges, what may be mirrored, and names that plugins add to."""

import re
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat, PositiveFloat

from medseg.errors import ConfigError, did_you_mean
from medseg.plugin_errors import check_arguments
from medseg.plugins import Kind, plugin_of, registered

# What training knows by itself; plugins add to it.
NAMES: dict[Kind, tuple[str, ...]] = {"optimizer": ("muon", "adamw", "sgd"), "schedule": ("cosine", "poly")}
OF_THE_USER = "custom"  # what the settings of a run call a part that the user gave as an object
TORCH = "torch."  # begins the names of PyTorch's optimizers


def seconds(duration: object) -> object:
    """Returns the seconds of ``"90s"``, ``"30m"``, ``"1h30m"`` or ``"2d"``; numbers are seconds already."""
    if not isinstance(duration, str) or re.fullmatch(r"[0-9.]+", duration):
        return duration
    parts = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", duration.strip())
    if not parts or not duration.strip():
        raise ValueError("write a duration as 90s, 30m, 1h30m or 2d")
    return sum(int(n or 0) * unit for n, unit in zip(parts.groups(), (86400, 3600, 60, 1), strict=True))


def ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    """Returns the bounds of a range. Raises ``ValueError`` where the larger one comes first."""
    if bounds[0] > bounds[1]:
        raise ValueError("write the smaller number first")
    return bounds


def mirroring(choice: object) -> object:
    """Returns the choice of axes to mirror; yes and no, which people write, are all and none."""
    return {True: "all", False: "none"}[choice] if isinstance(choice, bool) else choice


def known(kind: Kind, name: str) -> str:
    """Returns the name of what training or a plugin has. Raises ``ValueError``."""
    names = [*NAMES.get(kind, ()), *(each.name for each in registered(kind))]
    if name not in (*names, OF_THE_USER) and not (kind == "optimizer" and name.startswith(TORCH)):
        raise ValueError(f"there is no such {kind}{did_you_mean(name, names)}; one of a plugin needs --plugin")
    return name


def callback_of_plugin(spec: dict[str, Any]) -> dict[str, Any]:
    """Returns arguments of a callback that a plugin has. Raises ``ValueError``."""
    name = known("callback", str(spec.get("name")))
    plugin = plugin_of("callback", name)
    if plugin is not None:
        try:
            check_arguments(name, plugin.build, **{key: value for key, value in spec.items() if key != "name"})
        except ConfigError as error:
            raise ValueError(str(error)) from error
    return spec


# What weights can be chosen by: each has a worst value for what is missed, and a best one of 1.
ValidationMetric = Literal[
    "dice", "iou", "surface_dice", "lesion_f1", "panoptic_quality", "centreline_dice", "object_ap", "object_ap_50",
    "object_panoptic_quality",
]  # fmt: skip
METRIC_NAMES: dict[ValidationMetric, str] = {
    "dice": "Dice",
    "iou": "IoU",
    "surface_dice": "surface Dice",
    "lesion_f1": "lesion F1",
    "panoptic_quality": "panoptic quality",
    "centreline_dice": "clDice",
    "object_ap": "mean AP of objects",
    "object_ap_50": "AP of objects at IoU .5",
    "object_panoptic_quality": "PQ of objects",
}
Mirror = Annotated[Literal["auto", "left-right", "all", "none"], BeforeValidator(mirroring)]
Duration = Annotated[float, BeforeValidator(seconds), Field(gt=0)]
Range = Annotated[tuple[NonNegativeFloat, NonNegativeFloat], AfterValidator(ascending)]
PositiveRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(ascending)]
OptimizerName = Annotated[str, AfterValidator(partial(known, "optimizer"))]
ScheduleName = Annotated[str, AfterValidator(partial(known, "schedule"))]
CallbackSpec = Annotated[dict[str, Any], AfterValidator(callback_of_plugin)]  # {"name": "told", "every": 2}
