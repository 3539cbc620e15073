"""Which metrics there are: their names, what they mean, which way is better, and what an empty mask means for them."""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from medseg.errors import ConfigError

Better = Literal["high", "low", "neither"]
Group = Literal["overlap", "surface", "lesions", "objects", "centreline", "rand"]


class Metric(NamedTuple):
    """Metrics of a group are measured together."""

    group: Group
    better: Better
    definition: str


METRICS: dict[str, Metric] = {
    "dice": Metric("overlap", "high", "2|P∩R| / (|P|+|R|), in voxels (Dice 1945)"),
    "iou": Metric("overlap", "high", "|P∩R| / |P∪R|, in voxels (Jaccard 1912)"),
    "sensitivity": Metric("overlap", "high", "|P∩R| / |R|, in voxels (recall)"),
    "precision": Metric("overlap", "high", "|P∩R| / |P|, in voxels (positive predictive value)"),
    "prediction_ml": Metric("overlap", "neither", "volume of the prediction in ml"),
    "reference_ml": Metric("overlap", "neither", "volume of the reference in ml"),
    "volume_error_ml": Metric("overlap", "neither", "prediction_ml - reference_ml"),
    "hd_mm": Metric("surface", "low", "Hausdorff distance: the largest distance between edge voxels, in mm"),
    "hd95_mm": Metric(
        "surface",
        "low",
        "larger of the two directed 95th percentile Hausdorff distances between edge voxels, in mm "
        "(Huttenlocher et al. 1993)",
    ),
    "assd_mm": Metric(
        "surface",
        "low",
        "average symmetric surface distance: mean of all distances from edge voxels of either mask to the other's, "
        "in mm (Heimann et al. 2009)",
    ),
    "surface_dice": Metric(
        "surface",
        "high",
        "part of both surfaces, by area, within tolerance_mm of the other: normalized surface distance, NSD "
        "(Nikolov et al. 2018)",
    ),
    "lesion_sensitivity": Metric("lesions", "high", "matched lesions / lesions of the reference"),
    "lesion_precision": Metric("lesions", "high", "matched lesions / lesions of the prediction"),
    "lesion_f1": Metric("lesions", "high", "2 matched lesions / (lesions of the prediction + of the reference)"),
    "lesion_dice": Metric("lesions", "high", "mean Dice of the matched lesions"),
    "panoptic_quality": Metric("lesions", "high", "lesion_f1 × mean IoU of the matched lesions (Kirillov et al. 2019)"),
    "prediction_lesions": Metric("lesions", "neither", "lesions of the prediction"),
    "reference_lesions": Metric("lesions", "neither", "lesions of the reference"),
    "object_f1": Metric("objects", "high", "2 TP / (2 TP + FP + FN): recognition quality, RQ (Kirillov et al. 2019)"),
    "object_quality": Metric("objects", "high", "mean IoU of the matched objects: segmentation quality, SQ"),
    "object_panoptic_quality": Metric("objects", "high", "object_f1 × object_quality: PQ (Kirillov et al. 2019)"),
    "object_jaccard": Metric("objects", "high", "aggregated Jaccard index, AJI (Kumar et al. 2017)"),
    "object_ap": Metric("objects", "high", "mean of the average precisions at IoU .5, .6, .7, .8 and .9"),
    "object_ap_50": Metric("objects", "high", "average precision TP / (TP + FP + FN) at IoU .5 (Schmidt et al. 2018)"),
    "object_ap_60": Metric("objects", "high", "average precision at IoU .6"),
    "object_ap_70": Metric("objects", "high", "average precision at IoU .7"),
    "object_ap_80": Metric("objects", "high", "average precision at IoU .8"),
    "object_ap_90": Metric("objects", "high", "average precision at IoU .9"),
    "object_sensitivity": Metric("objects", "high", "matched objects / objects of the reference"),
    "object_precision": Metric("objects", "high", "matched objects / objects of the prediction"),
    "prediction_objects": Metric("objects", "neither", "objects of the prediction"),
    "reference_objects": Metric("objects", "neither", "objects of the reference"),
    "object_count_error": Metric("objects", "neither", "prediction_objects - reference_objects"),
    "object_splits": Metric(
        "objects",
        "low",
        "objects of the reference in which two predicted objects or more lie: more than half of each, and each a tenth "
        "of it at least",
    ),
    "object_merges": Metric("objects", "low", "predicted objects in which two of the reference or more lie, likewise"),
    "centreline_dice": Metric(
        "centreline",
        "high",
        "clDice: harmonic mean of the parts of either mask's skeleton that lie in the other mask (Shit et al. 2021)",
    ),
    "rand_score": Metric(
        "rand",
        "high",
        "images of one slice: V_Rand over the reference's pixels, pieces being components with 4 neighbours, borders "
        "thinned to lines (Arganda-Carreras et al. 2015)",
    ),
    "information_score": Metric("rand", "high", "images of one slice: V_Info, likewise (Arganda-Carreras et al. 2015)"),
}

GROUPS: tuple[Group, ...] = ("overlap", "surface", "lesions", "objects", "centreline", "rand")

# Fast, and enough for most organs: how much, how far off, how large.
DEFAULT: tuple[str, ...] = ("overlap", "surface")

EMPTY_MASKS = (
    "found: the label is in both masks. "
    "missed: in the reference only; false_alarm: in the prediction only. A formula that gives a number is taken at its "
    "word: dice, iou, surface_dice, centreline_dice, lesion_f1, panoptic_quality and "
    "those of objects are 0, their worst value; a missed "
    "label has a sensitivity of 0 and no precision, a false alarm a precision of 0 and no sensitivity. "
    "Distances have no worst value and are null. "
    "absent: in neither; nothing but volumes and numbers of lesions can be measured, all else is null. "
    "0/0 is null, never 0 or 1. "
    "Means, medians and quartiles go over the values that are not null; n says how many these are. "
    "(After Maier-Hein et al., Metrics Reloaded, Nature Methods 2024.)"
)

FAILED = {
    "missed": "a prediction that is missing, cannot be read or lies on another grid counts as an empty one: every "
    "label that its reference has is missed",
    "left-out": "cases whose prediction is missing, cannot be read or lies on another grid are left out, as was asked "
    "for: metrics speak of the others only",
}

UNKNOWN_VALUES = (
    "voxels of a prediction whose value is no label's count as background; they are false alarms of no label, and in "
    "no metric"
)

LESIONS = (
    "connected components of a label with 26 neighbours (8 in images of one slice); a lesion of the prediction and one "
    "of the reference match when their IoU is above lesion_iou, pairs taken from the highest IoU down, each lesion once"
)


OBJECTS = (
    "objects of an object map, each of one label; where none are told apart, the connected components of the label; an "
    "object of the prediction and one of the reference match when their IoU is .5 or more, each object once"
)


def chosen(names: Iterable[str]) -> list[str]:
    """Returns the metrics that are meant by names of metrics or groups, in the order of ``METRICS``.

    Raises:
        ConfigError: A name is neither that of a metric nor that of a group.
    """
    wanted = set(names)
    unknown = wanted - METRICS.keys() - set(GROUPS)
    if unknown:
        raise ConfigError(
            f"no metric is called '{min(unknown)}'; there are {', '.join(METRICS)}, and the groups {', '.join(GROUPS)}"
        )
    return [name for name, metric in METRICS.items() if name in wanted or metric.group in wanted]


def definitions(metrics: Iterable[str], failed: str = "missed") -> dict[str, str]:
    """Returns what metrics.json says of the metrics in it, by name.

    Args:
        metrics: Names of the metrics that were measured.
        failed: What a case counts as whose prediction cannot be used.
    """
    measured = list(metrics)
    notes: Mapping[str, str] = {
        "interval": "95 % percentile bootstrap interval of the mean, 2,000 resamples of the cases, seed 0",
        "over_labels": "mean over the labels of their means, medians and quartiles",
        "empty_masks": EMPTY_MASKS,
        "failed": FAILED[failed],
        "unknown_values": UNKNOWN_VALUES,
    }
    lesions = {"lesion": LESIONS} if any(METRICS[name].group == "lesions" for name in measured) else {}
    objects = {"object": OBJECTS} if any(METRICS[name].group == "objects" for name in measured) else {}
    if objects:
        objects["pooled"] = "average precisions with TP, FP and FN summed up over all cases: each object counts alike"
    return {name: METRICS[name].definition for name in measured} | lesions | objects | dict(notes)
