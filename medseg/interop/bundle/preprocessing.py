"""The preprocessing of a bundle as a grid of medseg's plan: a table of MONAI's dictionary transforms."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from medseg.interop.bundle.configuration import BundleConfig, Component
from medseg.plan import STORED, Grid, Normalization, Resampling
from medseg.records import explained

# What medseg's readers do anyway, and what changes types, names and places of values only.
NOTHING = {
    "LoadImaged", "EnsureChannelFirstd", "EnsureTyped", "CastToTyped", "ToTensord", "ToDeviced", "FromMetaTensord",
    "ToMetaTensord", "DeleteItemsd", "SelectItemsd",
}  # fmt: skip
# Transforms of values, which are called as they are: they come with MONAI, and take numbers and words only.
OF_VALUES = {
    "AdjustContrastd", "ClipIntensityPercentilesd", "GaussianSmoothd", "HistogramNormalized", "NormalizeIntensityd",
    "ScaleIntensityd", "ScaleIntensityFixedMeand", "ScaleIntensityRanged", "ScaleIntensityRangePercentilesd",
    "ShiftIntensityd", "ThresholdIntensityd",
}  # fmt: skip
# Arguments that change nothing of an image: where and in which type it is computed, and what is done without one.
ASIDE = ("allow_missing_keys", "dtype", "meta_keys", "meta_key_postfix", "lazy", "_desc_", "device", "track_meta")
INTERPOLATION = {"bilinear": "linear", "nearest": "nearest", 0: "nearest", 1: "linear", 3: "cubic"}
IMAGE = "image"


@dataclass
class GridDraft:
    """What the transforms of a bundle said so far."""

    orientation: str = STORED
    pixdim: tuple[float, ...] | None = None
    interpolation: str = "linear"
    before: list[Component] = field(default_factory=list)  # transforms of values before the spacing …
    after: list[Component] = field(default_factory=list)  # … and after it
    crop_last: bool = False


def bundle_grid(configuration: BundleConfig, in_channels: int, restored: str) -> Grid:
    """Returns the grid that the preprocessing of a bundle leads to.

    Args:
        configuration: Of the bundle.
        in_channels: Of the network.
        restored: What is brought back to the source: "logits", "probabilities" or "labels".

    Raises:
        ModelError: A transform is not on the list, comes where it cannot be followed, or has other arguments.
    """
    whole = configuration.component("preprocessing", "transforms")
    steps = list(whole.components("transforms")) if whole.name == "Compose" else [whole]
    draft = GridDraft()
    for step in steps:
        _take(step, draft)
    rule, transforms, first = _normalization(draft, in_channels)
    pixdim = draft.pixdim or (0.0, 0.0, 0.0)
    x, y, z = (mm if mm > 0 else 1.0 for mm in pixdim)
    resampling = Resampling(rule="monai", interpolation=draft.interpolation, restored=restored)
    try:
        return Grid(
            orientation=draft.orientation,
            spacing=(x, y, z),
            own_spacing=tuple(axis for axis, mm in enumerate(pixdim) if not mm > 0),
            crop_to_nonzero=False,
            crop_last=draft.crop_last,
            normalization=(rule,) * in_channels,
            resample_first=first,
            resampling=resampling,
            transforms=transforms,
        )
    except ValidationError as error:
        raise whole.error(f"cannot be taken: {explained(error)}") from error


def _take(step: Component, draft: GridDraft) -> None:
    """Adds a transform to the draft; raises where it cannot be followed."""
    if step.name in NOTHING:
        return
    keys = step.argument("keys")
    if IMAGE not in (keys if isinstance(keys, list | tuple) else [keys]):
        raise step.error(f"works on {keys!r}; medseg prepares '{IMAGE}' only", "keys")
    if draft.crop_last:
        raise step.error(f"is {step.name} after CropForegroundd, which medseg takes at the end only")
    if step.name == "Orientationd":
        _take_orientation(step, draft)
    elif step.name == "Spacingd":
        _take_spacing(step, draft)
    elif step.name == "CropForegroundd":
        _take_crop(step, draft)
    elif step.name in OF_VALUES:
        (draft.before if draft.pixdim is None else draft.after).append(step)
    else:
        known = ", ".join(sorted({"Orientationd", "Spacingd", "CropForegroundd", *OF_VALUES}))
        raise step.error(f"is {step.target}, which medseg does not take; it takes {known}")


def _take_orientation(step: Component, draft: GridDraft) -> None:
    if draft.pixdim is not None:
        raise step.error("comes after Spacingd; medseg orients images before it resamples them")
    closest = bool(step.argument("as_closest_canonical", False))
    step.only({"keys": ..., "axcodes": ..., "as_closest_canonical": ...}, (*ASIDE, "labels"))
    axes = "RAS" if closest else step.argument("axcodes")
    if not isinstance(axes, str):
        raise step.error("is no orientation such as RAS", "axcodes")
    draft.orientation = axes


def _take_spacing(step: Component, draft: GridDraft) -> None:
    if draft.pixdim is not None:
        raise step.error("is a second Spacingd")
    as_usual = {"diagonal": False, "align_corners": False, "scale_extent": False, "recompute_affine": False}
    step.only({"keys": ..., "pixdim": ..., "mode": ..., "padding_mode": ..., **as_usual}, ASIDE)
    pixdim = step.argument("pixdim")
    values = list(pixdim) if isinstance(pixdim, list | tuple) else [pixdim]
    if not values or not all(isinstance(mm, int | float) and not isinstance(mm, bool) for mm in values):
        raise step.error(f"is {pixdim!r}, no spacing", "pixdim")
    draft.pixdim = tuple(float(mm) for mm in (values + values[-1:] * 2)[:3])
    mode, padding = (_of_image(step, name, other) for name, other in (("mode", "bilinear"), ("padding_mode", "border")))
    if mode not in INTERPOLATION:
        raise step.error(f"is {mode!r}; medseg takes {', '.join(map(repr, INTERPOLATION))}", "mode")
    if padding not in ("border", "nearest"):
        raise step.error(f"is {padding!r}; medseg takes the nearest value beyond the border", "padding_mode")
    draft.interpolation = INTERPOLATION[mode]


def _of_image(step: Component, name: str, default: object) -> Any:
    """Returns an argument of a transform, which may be one for each of its keys."""
    value, keys = step.argument(name, default), step.argument("keys")
    if isinstance(value, list | tuple):
        at = list(keys).index(IMAGE) if isinstance(keys, list | tuple) else 0
        return value[at] if at < len(value) else default
    return value


def _take_crop(step: Component, draft: GridDraft) -> None:
    step.only(
        {"keys": ..., "source_key": IMAGE, "margin": 0, "k_divisible": 1, "channel_indices": None},
        (*ASIDE, "mode", "allow_smaller", "start_coord_key", "end_coord_key"),
    )
    draft.crop_last = True


Rules = tuple[Normalization, tuple[dict[str, object], ...], bool]


def _normalization(draft: GridDraft, in_channels: int) -> Rules:
    """Returns how values are changed.

    Returns:
        One rule for all channels, MONAI's transforms that come after it, and whether images are resampled before all
        that.
    """
    before, after = (draft.before, draft.after) if draft.pixdim is not None else ([], draft.before)
    if before:
        rule = _as_rule(before, in_channels)
        if rule is None:
            raise before[-1].error(
                f"is {before[-1].name} before Spacingd; medseg takes there one ScaleIntensityRanged, or "
                "NormalizeIntensityd channel by channel"
            )
        return rule, tuple(map(_spec, after)), False
    rule = _as_rule(after, in_channels)
    if rule is not None:
        return rule, (), draft.pixdim is not None
    return Normalization(kind="none"), tuple(map(_spec, after)), False


def _as_rule(steps: Sequence[Component], in_channels: int) -> Normalization | None:
    """Returns transforms of values as a rule of medseg, which needs no MONAI; None where there is none for them."""
    names = [step.name for step in steps]
    if not steps:
        return Normalization(kind="none")
    if names == ["ScaleIntensityRanged"]:
        return _range(steps[0])
    if names == ["NormalizeIntensityd"]:
        return _zscore(steps[0], in_channels)
    if names == ["ScaleIntensityd"]:
        ends = _ends(steps[0], in_channels)
        return None if ends is None else Normalization(kind="none", rescaled=ends)
    if names == ["NormalizeIntensityd", "ScaleIntensityd"]:
        rule, ends = _zscore(steps[0], in_channels), _ends(steps[1], in_channels)
        return None if rule is None or ends is None else rule.model_copy(update={"rescaled": ends})
    return None


def _range(step: Component) -> Normalization | None:
    """Returns ScaleIntensityRange as a rule: ``(value - mean) / std``, after clipping where it clips."""
    step.only({"keys": ..., "a_min": ..., "a_max": ..., "b_min": ..., "b_max": ..., "clip": ...}, ASIDE)
    low, high, new_low, new_high = (_number(step, name) for name in ("a_min", "a_max", "b_min", "b_max"))
    if None in (low, high, new_low, new_high) or low == high or new_low == new_high:
        return None
    std = (high - low) / (new_high - new_low)
    if std <= 0:
        return None
    clips = bool(step.argument("clip", False))
    ends = {"lower": low, "upper": high} if clips else {}
    return Normalization(kind="ct" if clips else "linear", mean=low - new_low * std, std=std, **ends)


def _zscore(step: Component, in_channels: int) -> Normalization | None:
    step.only({"keys": ..., "nonzero": ..., "channel_wise": ..., "subtrahend": None, "divisor": None}, ASIDE)
    alone = in_channels == 1 or bool(step.argument("channel_wise", False))
    return Normalization(kind="zscore", nonzero=bool(step.argument("nonzero", False))) if alone else None


def _ends(step: Component, in_channels: int) -> tuple[float, float] | None:
    """Returns what ScaleIntensity makes of the lowest and the highest value."""
    step.only({"keys": ..., "minv": ..., "maxv": ..., "channel_wise": ..., "factor": None}, ASIDE)
    low, high = _number(step, "minv", 0.0), _number(step, "maxv", 1.0)
    alone = in_channels == 1 or bool(step.argument("channel_wise", False))
    return (low, high) if alone and low is not None and high is not None else None


def _number(step: Component, name: str, default: float | None = None) -> Any:
    value = step.argument(name, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise step.error(f"is {value!r}, no number", name)
    return value


def _spec(step: Component) -> dict[str, object]:
    """Returns a transform as ``preprocessing.transforms`` has it."""
    arguments = {name: step.argument(name) for name in sorted(step.given - {*ASIDE, "keys"})}
    for name, value in arguments.items():
        parts = value if isinstance(value, list | tuple) else [value]
        if not all(part is None or isinstance(part, str | int | float) for part in parts):
            raise step.error("holds more than numbers and words", name)
    return {"name": step.name, "keys": [IMAGE], **arguments}
