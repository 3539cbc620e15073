import pytest

from medseg.errors import LabelError
from medseg.labels import Labels
from medseg.planning.regions import learnt_regions, regions_to_learn

# As BraTS has it: necrosis 1, oedema 2, enhancing 4.
TUMOUR = Labels.from_names({"enhancing": 4}, {"core": (1, 4), "whole": (1, 2, 4)})


def learnt(labels: Labels) -> list[tuple[str, tuple[int, ...], int]]:
    return [(region.name, region.values, region.value) for region in learnt_regions(labels)]


def test_nested_regions_go_from_the_largest_to_the_smallest() -> None:
    assert learnt(TUMOUR) == [("whole", (1, 2, 3), 2), ("core", (1, 3), 1), ("enhancing", (3,), 3)]


def test_regions_beside_each_other_and_labels_alone() -> None:
    labels = Labels.from_names({"stone": 7, "tumour": 2, "cyst": 3}, {"kidney": (1, 2, 3)})
    assert learnt(labels) == [("kidney", (1, 2, 3), 1), ("tumour", (2,), 2), ("cyst", (3,), 3), ("stone", (4,), 4)]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Labels.from_names({}, {"a": (1, 2), "b": (2, 3)}), "'a' and 'b' overlap, and neither holds the other"),
        (Labels.from_names({"a": 1, "b": 2}, {"both": (1, 2)}), "no label is left of 'both'"),
        (Labels.from_names({"a": 1}, {"all": (1, 2, 3)}), "2 labels are left of 'all'"),
    ],
)
def test_what_makes_no_label_map_is_refused_or_learnt_by_labels(
    labels: Labels, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LabelError, match=f"{message}.*regions_class_order.*training.outputs=labels"):
        regions_to_learn(labels, "regions")
    assert regions_to_learn(labels, "auto") == ()
    said = capsys.readouterr()
    assert message in " ".join((said.out + said.err).split())


def test_regions_are_learnt_where_there_are_some() -> None:
    assert regions_to_learn(TUMOUR, "auto") == regions_to_learn(TUMOUR, "regions") == learnt_regions(TUMOUR)
    assert regions_to_learn(TUMOUR, "labels") == ()
    plain = Labels.from_names({"liver": 1, "spleen": 2})
    assert regions_to_learn(plain, "auto") == ()
    with pytest.raises(LabelError, match="names no regions"):
        regions_to_learn(plain, "regions")


def ordered(labels: Labels, **values: int) -> Labels:
    return Labels.model_validate({**labels.model_dump(), "region_order": tuple(values.items())})


def test_the_order_that_is_given_is_taken() -> None:
    crossing = Labels.from_names({}, {"a": (1, 2), "b": (2, 3)})
    assert learnt(ordered(crossing, b=3, a=1)) == [("b", (2, 3), 3), ("a", (1, 2), 1)]
    open_end = Labels.from_names({"a": 1}, {"all": (1, 2, 5)})
    assert learnt(ordered(open_end, all=5, a=1)) == [("all", (1, 2, 3), 3), ("a", (1,), 1)]


def test_a_wrong_order_is_said() -> None:
    with pytest.raises(LabelError, match="'core' write 2, which is not in it"):
        regions_to_learn(ordered(TUMOUR, whole=1, core=2, enhancing=4), "auto")
    with pytest.raises(LabelError, match="both 'core' and 'enhancing' write 4"):
        learnt_regions(ordered(TUMOUR, whole=2, core=4, enhancing=4))
    with pytest.raises(LabelError, match="is of whole, core, and the dataset has enhancing, core, whole"):
        learnt_regions(ordered(TUMOUR, whole=2, core=1))
    with pytest.raises(ValueError, match="'core' write 9"):
        ordered(TUMOUR, core=9)
