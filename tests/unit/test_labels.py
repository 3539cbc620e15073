import numpy as np
import pytest

from medseg.errors import LabelError
from medseg.labels import IGNORED, Labels
from medseg.structures import check_annotated


@pytest.mark.parametrize("values", [[1], [255], [1, 2, 4], [7, 300, 70000], [-3, 5]])
def test_values_are_mapped_and_mapped_back(values: list[int]) -> None:
    labels = Labels.from_names({"background": 0, **{f"l{v}": v for v in values}})
    label_map = np.random.default_rng(0).choice([0, *values], (4, 5, 6))
    encoded = labels.encode(label_map)
    assert encoded.dtype == np.uint8
    assert set(np.unique(encoded)) <= set(range(len(values) + 1))
    assert np.array_equal(labels.decode(encoded), label_map)


def test_decoded_values_take_the_smallest_type() -> None:
    assert Labels.from_names({"a": 255}).decode(np.zeros(1, np.uint8)).dtype == np.uint8
    assert Labels.from_names({"a": 300}).decode(np.zeros(1, np.uint8)).dtype == np.int16


def test_unknown_values_are_named() -> None:
    with pytest.raises(LabelError, match=r"\[3\] are not among the known \[0, 1, 2\]"):
        Labels.from_names({"a": 1, "b": 2}).encode(np.array([0, 1, 3]))
    with pytest.raises(LabelError, match="whole numbers"):
        Labels.from_names({"a": 1}).encode(np.array([0, 0.5]))


def test_background_and_doubles_are_refused() -> None:
    with pytest.raises(ValueError, match="differ from each other"):
        Labels.from_names({"a": 1, "b": 1})


def test_left_right_pairs_are_found_by_name() -> None:
    labels = Labels.from_names({"Left kidney": 1, "Right kidney": 2, "liver": 3, "left lung": 4})
    assert labels.left_right_pairs == [("Left kidney", "Right kidney")]
    assert Labels.from_names({"kidney_left": 1, "kidney_right": 2}).left_right_pairs == [
        ("kidney_left", "kidney_right")
    ]
    assert Labels.from_names({"liver": 1}).left_right_pairs == []


def test_the_ignore_value_is_no_label_and_no_prediction_has_it() -> None:
    labels = Labels.from_names({"a": 1, "b": 2}, ignore=3)
    encoded = labels.encode(np.array([0, 3, 2, 1]))
    assert encoded.tolist() == [0, IGNORED, 2, 1]
    assert labels.decode(encoded[[0, 2, 3]]).tolist() == [0, 2, 1]
    assert labels.renamed({1: "other"}).ignore == labels.described({"a": {"colour": (1, 2, 3)}}).ignore == 3
    assert Labels.from_values([0, 1, 4, 9], ignore=9).values == [1, 4]


def test_renamed_regions_keep_their_order() -> None:
    labels = Labels.from_names({"liver": 5}, regions={"whole": (1, 2), "core": (2,)})
    ordered = labels.model_copy(update={"region_order": (("whole", 1), ("core", 2), ("liver", 5))})
    renamed = ordered.renamed({1: "tumour and oedema", 5: "hepar"})
    assert renamed.region_order == (("tumour and oedema", 1), ("core", 2), ("hepar", 5))
    assert ordered.renamed({}).region_order == ordered.region_order


@pytest.mark.parametrize(("value", "name"), [(0, "background"), (2, "b")])
def test_an_ignore_value_that_is_taken_is_refused(value: int, name: str) -> None:
    labels = Labels.from_names({"a": 1, "b": 2}, ignore=3)
    assert labels.ignoring(7).ignore == 7
    assert labels.ignoring(None) == labels
    with pytest.raises(LabelError, match=f"the ignore value cannot be {value}: that is '{name}'"):
        labels.ignoring(value)


def test_annotated_labels_are_known_ones() -> None:
    labels = Labels.from_names({"liver": 1, "spleen": 2})
    check_annotated(None, labels.names)
    check_annotated(("spleen",), labels.names)
    with pytest.raises(LabelError, match="'splen' was annotated, but is no label; did you mean 'spleen'"):
        check_annotated(("liver", "splen"), labels.names)
    with pytest.raises(LabelError, match="no label was annotated"):
        check_annotated((), labels.names)
