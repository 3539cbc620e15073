import numpy as np
import pytest

from medseg.evaluation.case import LabelMetrics, Measures, measure_case
from medseg.labels import IGNORED, Labels
from medseg.metrics.definitions import GROUPS, METRICS, chosen
from medseg.metrics.surface import surface_dice, surface_distances

LABELS = Labels.from_names({"found": 1, "missed": 2, "false_alarm": 3, "absent": 4})
SPACING = (1.0, 2.0, 5.0)


def by_status() -> dict[str, LabelMetrics]:
    prediction = np.zeros((12, 12, 12), np.uint8)
    reference = np.zeros_like(prediction)
    prediction[2:5, 2:5, 2:5] = 1
    reference[2:6, 2:5, 2:5] = 1
    reference[8:10, 8:10, 8:10] = 2
    prediction[8:10, 1:3, 8:10] = 3
    records = measure_case("a", prediction, reference, SPACING, LABELS, Measures(tuple(chosen(GROUPS))))
    assert [record.label for record in records] == LABELS.names
    return {record.status: record for record in records}


def test_each_kind_of_empty_mask_has_its_status_and_values() -> None:
    """The policy of ``EMPTY_MASKS``, metric by metric: 0/0 is None, whatever else the formula gives holds."""
    records = by_status()
    assert all(status == record.label for status, record in records.items())
    assert all(list(record.values) == list(METRICS) for record in records.values())
    worst = ("dice", "iou", "surface_dice", "centreline_dice", "lesion_f1", "panoptic_quality")
    undefined = ("hd_mm", "hd95_mm", "assd_mm", "lesion_dice", "rand_score", "information_score")
    for status, defined, not_defined in (
        ("missed", "sensitivity", "precision"),
        ("false_alarm", "precision", "sensitivity"),
    ):
        values = records[status].values
        assert [values[name] for name in (*worst, defined, f"lesion_{defined}")] == [0.0] * 8
        assert [values[name] for name in (*undefined, not_defined, f"lesion_{not_defined}")] == [None] * 8
    counted = {name: value for name, value in records["absent"].values.items() if value is not None}
    volumes = ("prediction_ml", "reference_ml", "volume_error_ml", "prediction_lesions", "reference_lesions")
    objects = ("prediction_objects", "reference_objects", "object_count_error", "object_splits", "object_merges")
    assert counted == dict.fromkeys((*volumes, *objects), 0.0)


def test_values_of_a_label_that_was_found() -> None:
    values = by_status()["found"].values
    assert values["dice"] == pytest.approx(2 * 27 / (27 + 36))
    assert values["sensitivity"] == pytest.approx(27 / 36)
    assert values["precision"] == 1
    assert values["hd95_mm"] == values["hd_mm"] == pytest.approx(1.0)
    assert (values["lesion_f1"], values["panoptic_quality"]) == (1, pytest.approx(27 / 36))
    assert values["rand_score"] is None  # of images of one slice only


def test_volumes_are_in_ml() -> None:
    records = by_status()
    volumes = ("prediction_ml", "reference_ml", "volume_error_ml")
    assert [records["found"].values[name] for name in volumes] == pytest.approx([0.27, 0.36, -0.09])
    assert [records["missed"].values[name] for name in volumes] == pytest.approx([0, 0.08, -0.08])
    assert [records["false_alarm"].values[name] for name in volumes] == pytest.approx([0.08, 0, 0.08])


def test_labels_have_tolerances_of_their_own() -> None:
    prediction, reference = np.zeros((2, 12, 12, 12), np.uint8)
    prediction[2:5, 2:5, 2:5], reference[3:6, 2:5, 2:5] = 1, 1
    prediction[2:5, 7:10, 7:10], reference[3:6, 7:10, 7:10] = 2, 2
    labels = Labels.from_names({"strict": 1, "loose": 2})
    measures = Measures(("surface_dice",), {"strict": 0.5, "loose": 2.0})
    strict, loose = measure_case("a", prediction, reference, (1.0, 1.0, 1.0), labels, measures)
    assert strict.values["surface_dice"] < loose.values["surface_dice"] == 1
    assert measures.tolerance_of("another") == 1


def test_images_of_one_slice_have_rand_scores() -> None:
    label_map = np.zeros((1, 20, 20), np.uint8)
    label_map[0, 2:9], label_map[0, 11:18] = 1, 1
    (record,) = measure_case(
        "a", label_map, label_map, (1.0, 1.0, 1.0), Labels.from_names({"cell": 1}), Measures(tuple(chosen(["rand"])))
    )
    assert record.values == {"rand_score": 1, "information_score": 1}


def test_cropping_to_the_masks_changes_no_metric() -> None:
    """A structure on a single slice of a volume must not turn into a 2D image."""
    prediction = np.zeros((16, 16, 16), np.uint8)
    reference = np.zeros_like(prediction)
    prediction[4:12, 4:12, 7] = 1
    reference[6:12, 4:14, 7] = 1
    (record,) = measure_case(
        "a", prediction, reference, SPACING, Labels.from_names({"slice": 1}), Measures(tolerance_mm=0.5)
    )
    assert record.values["hd95_mm"] == surface_distances(prediction == 1, reference == 1, SPACING).hd95_mm
    assert record.values["surface_dice"] == surface_dice(prediction == 1, reference == 1, SPACING, 0.5)
    assert record.values["surface_dice"] != surface_dice(
        prediction[..., 7:8] == 1, reference[..., 7:8] == 1, SPACING, 0.5
    )


def test_regions_are_measured_and_their_mere_parts_are_not() -> None:
    random = np.random.default_rng(0)
    prediction, reference = random.integers(0, 4, (2, 9, 8, 7)).astype(np.uint8)
    prediction[4:], reference[5:] = 0, 0
    labels = Labels.from_names({"enhancing": 3}, {"whole": (1, 2, 3), "core": (1, 3)})
    records = measure_case("a", prediction, reference, SPACING, labels)
    assert [record.label for record in records] == ["enhancing", "whole", "core"]
    for record, values in zip(records, [(3,), (1, 2, 3), (1, 3)], strict=True):
        masks = [np.isin(each, values).astype(np.uint8) for each in (prediction, reference)]
        (alone,) = measure_case("a", *masks, SPACING, Labels.from_names({record.label: 1}))
        assert record == alone


def test_ignored_voxels_and_labels_that_were_not_annotated_are_left_out() -> None:
    prediction = np.zeros((12, 12, 12), np.uint8)
    reference = np.zeros_like(prediction)
    prediction[2:8, 2:8, 2:8], reference[2:8, 2:8, 2:6] = 1, 1
    prediction[9:11, 9:11], reference[9:11, 9:11, :4] = 2, 2
    cut = measure_case("a", prediction[..., :5], reference[..., :5], SPACING, LABELS)
    reference[..., 5:] = IGNORED
    assert measure_case("a", prediction, reference, SPACING, LABELS) == cut
    only = measure_case("a", prediction, reference, SPACING, LABELS, Measures(annotated=("missed",)))
    assert only == [record for record in cut if record.label == "missed"]


def test_where_no_structure_was_annotated_as_a_whole_nothing_is_measured() -> None:
    label_map = np.random.default_rng(0).integers(0, 3, (6, 5, 4)).astype(np.uint8)
    labels = Labels.from_names({}, {"whole": (1, 2)})
    assert measure_case("a", label_map, label_map, SPACING, labels, Measures(annotated=("label_1",))) == []
