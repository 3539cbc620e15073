"""What is small, thin or rare is told, with what helps; organs are not."""

import numpy as np
import pytest

from medseg.dataset.label_shapes import LabelShape, label_shapes, shape_notes
from medseg.labels import Labels

MM = (1.0, 1.0, 1.0)
NAMES = Labels.from_names({"organ": 1, "lesion": 2, "vessel": 3})


def drawn(flat: bool = False) -> np.ndarray:
    """An organ, a large lesion and small ones, and a vessel that branches."""
    label_map = np.zeros((80, 60, 1 if flat else 40), np.uint8)
    x, y, z = np.ogrid[:80, :60, : label_map.shape[2]]
    label_map[(x - 20) ** 2 + (y - 20) ** 2 + (z - (0 if flat else 20)) ** 2 < 15**2] = 1
    label_map[(x - 60) ** 2 + (y - 20) ** 2 + (z - (0 if flat else 20)) ** 2 < 12**2] = 2
    for i in range(6):
        label_map[45 + 4 * i : 47 + 4 * i, 50:53, :3] = 2
    label_map[2:78, 42:44, -3:] = 3
    label_map[40:42, 42:58, -3:] = 3
    return label_map


@pytest.mark.parametrize("flat", [False, True])
def test_small_and_thin_labels_are_told_and_organs_are_not(flat: bool) -> None:
    notes = list(shape_notes([label_shapes(drawn(flat), MM)] * 3, NAMES))
    assert [(note.rule, note.label) for note in notes] == [("small-components", "lesion"), ("thin-label", "vessel")]
    assert "has 21 components, of which 18 are of fewer than 100 voxels" in notes[0].what
    assert "loss.name=cc-dice-ce" in notes[0].to_do and "loss.name=tversky" in notes[1].to_do
    assert str(notes[1]).startswith("vessel is long, and about ")


def test_voxels_that_are_no_cubes_are_measured_in_the_shortest_edge() -> None:
    tube = np.zeros((60, 12, 4), np.uint8)
    tube[:, 2:10, 1:3] = 1  # 8 by 8 mm
    shape = label_shapes(tube, (1.0, 1.0, 4.0))[1]
    assert 5 < shape.thickness < 13


def test_a_label_of_few_cases_is_told() -> None:
    common = {1: LabelShape((9000,), 20.0, 2.0)}
    rare = {**common, 2: LabelShape((9000,), 20.0, 2.0)}
    (note,) = shape_notes([common] * 9 + [rare], NAMES)
    assert (note.rule, note.label) == ("rare-label", "lesion") and "is in 1 of 10 cases only" in note.what


def test_objects_that_are_told_apart_need_no_other_loss() -> None:
    shapes = [label_shapes(drawn(), MM)] * 3
    apart = NAMES.with_instances(["lesion"])
    assert [note.label for note in shape_notes(shapes, apart)] == ["vessel"]
    assert list(shape_notes(shapes, None)) == []


def test_specks_and_single_structures_are_no_lesions() -> None:
    specks = LabelShape((9000, 2, 1, 1, 1, 1, 1), 20.0, 2.0)
    nerve = LabelShape((60,), 4.0, 3.0)  # small, and one in each case
    assert not list(shape_notes([{1: specks, 2: nerve}] * 4, NAMES))


def test_objects_by_number_and_odd_values_are_not_looked_at() -> None:
    assert label_shapes(np.arange(512, dtype=np.uint32).reshape(8, 8, 8), MM) == {}
    assert label_shapes(np.full((4, 4, 4), 2**31 - 1, np.int64), MM) == {}
    assert label_shapes(np.full((4, 4, 4), -1, np.int16), MM) == {}
    assert label_shapes(np.zeros((4, 4, 4), np.uint8), MM) == {}
    ignored = np.full((6, 6, 6), 9, np.uint8)
    ignored[:2] = 1
    assert list(label_shapes(ignored, MM, ignore=9)) == [1]
