import numpy as np
import pytest

from medseg.evaluation.case import LabelMetrics, measure_case
from medseg.evaluation.surface import hausdorff95_mm, surface_dice
from medseg.labels import Labels

LABELS = Labels.from_names({"found": 1, "missed": 2, "false_alarm": 3, "absent": 4})
SPACING = (1.0, 2.0, 5.0)


def by_status() -> dict[str, LabelMetrics]:
    prediction = np.zeros((12, 12, 12), np.uint8)
    reference = np.zeros_like(prediction)
    prediction[2:5, 2:5, 2:5] = 1
    reference[2:6, 2:5, 2:5] = 1
    reference[8:10, 8:10, 8:10] = 2
    prediction[8:10, 1:3, 8:10] = 3
    records = measure_case("a", prediction, reference, SPACING, LABELS, tolerance_mm=1.0)
    assert [record.label for record in records] == LABELS.names
    return {record.status: record for record in records}


def test_each_kind_of_empty_mask_has_its_status_and_values() -> None:
    records = by_status()
    for status, record in records.items():
        assert record.label == status
    for status in ("missed", "false_alarm"):
        record = records[status]
        assert (record.dice, record.iou, record.surface_dice) == (0.0, 0.0, 0.0)
        assert record.hd95_mm is None
    absent = records["absent"]
    assert (absent.dice, absent.iou, absent.hd95_mm, absent.surface_dice) == (None, None, None, None)
    assert records["found"].dice == pytest.approx(2 * 27 / (27 + 36))
    assert records["found"].hd95_mm == pytest.approx(1.0)


def test_volumes_are_in_ml() -> None:
    records = by_status()
    assert records["found"].prediction_ml == pytest.approx(27 * 10 / 1000)
    assert records["found"].reference_ml == pytest.approx(36 * 10 / 1000)
    assert records["missed"].prediction_ml == 0
    assert records["false_alarm"].prediction_ml == pytest.approx(0.08)


def test_cropping_to_the_masks_changes_no_metric() -> None:
    """A structure on a single slice of a volume must not turn into a 2D image."""
    prediction = np.zeros((16, 16, 16), np.uint8)
    reference = np.zeros_like(prediction)
    prediction[4:12, 4:12, 7] = 1
    reference[6:12, 4:14, 7] = 1
    (record,) = measure_case("a", prediction, reference, SPACING, Labels.from_names({"slice": 1}), tolerance_mm=0.5)
    assert record.hd95_mm == hausdorff95_mm(prediction == 1, reference == 1, SPACING)
    assert record.surface_dice == surface_dice(prediction == 1, reference == 1, SPACING, 0.5)
    assert record.surface_dice != surface_dice(prediction[..., 7:8] == 1, reference[..., 7:8] == 1, SPACING, 0.5)
