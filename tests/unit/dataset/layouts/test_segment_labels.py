"""One label value for each name of a segment, over a whole dataset."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from dicom_drawn import write_rtstruct

from medseg.dataset.layouts.segment_labels import NamedLabels, name_labels, plain_name
from medseg.errors import ConfigError
from medseg.io.source import ImageSource
from medseg.labels import Labels

Name = Callable[..., NamedLabels]


@pytest.fixture
def named(tmp_path: Path) -> Name:
    """``name_labels`` of structure sets: names of ROIs by case; ``first`` is the number of the first ROI of each."""

    def name(
        cases: Mapping[str, list[str]],
        rename: Mapping[str, str] | None = None,
        known: Labels | None = None,
        first: Mapping[str, int] | None = None,
    ) -> NamedLabels:
        sources = {}
        for case, names in cases.items():
            path = tmp_path / f"{case}.dcm"
            write_rtstruct(path, {name: [] for name in names}, first_number=(first or {}).get(case, 1))
            sources[case] = [ImageSource("rtstruct", path, (path,))]
        return name_labels(sources, rename or {}, known)

    return name


def values(labels: Labels) -> dict[str, int]:
    return dict(zip(labels.names, labels.values, strict=True))


def chosen(named: NamedLabels) -> dict[str, Mapping[str, int] | None]:
    return {case: label.values for case, label in named.sources.items()}


def test_numbers_are_kept_where_they_are_the_same_in_all_cases(named: Name) -> None:
    result = named({"a": ["spleen", "liver"], "b": ["spleen", "liver"]}, first={"a": 7, "b": 7})
    assert values(result.labels) == {"spleen": 7, "liver": 8}
    assert not result.notes and not result.errors


def test_else_values_follow_the_order_of_names(named: Name) -> None:
    result = named({"a": ["spleen", "Liver"], "b": ["Liver", "spleen"]})
    assert values(result.labels) == {"Liver": 1, "spleen": 2}
    assert chosen(result) == {"a": {"spleen": 2, "Liver": 1}, "b": {"Liver": 1, "spleen": 2}}


def test_spellings_are_one_label_by_the_most_usual(named: Name) -> None:
    result = named({"a": ["Left Lung"], "b": ["left_lung"], "c": ["Left Lung"]})
    assert result.labels.names == ["Left Lung"]
    assert chosen(result)["b"] == {"left_lung": 1}
    assert result.notes == ["taken as one label: 'Left Lung', 'left_lung'"]


def test_the_first_rule_that_fits_renames_and_an_empty_one_drops(named: Name) -> None:
    rules = {"GTV N*": "node", "GTV*": "tumour", "body": ""}
    result = named({"a": ["GTV 1", "gtv_n1", "BODY"], "b": ["GTVp"]}, rules)
    assert values(result.labels) == {"tumour": 1, "node": 2}  # their numbers in all cases
    assert chosen(result) == {"a": {"GTV 1": 1, "gtv_n1": 2}, "b": {"GTVp": 1}}
    assert any(note.startswith("not in all cases: node (1 of 2 cases)") for note in result.notes)


def test_a_rule_that_fits_nothing_is_an_error(named: Name) -> None:
    with pytest.raises(ConfigError, match=r"--rename 'lever': no segment has such a name.*liver"):
        named({"a": ["liver"]}, {"lever": "organ"})


def test_known_labels_keep_their_values_and_others_are_errors_of_their_case(named: Name) -> None:
    result = named({"a": ["Liver"], "b": ["liver", "kidney"]}, known=Labels.from_names({"liver": 4, "spleen": 6}))
    assert chosen(result) == {"a": {"Liver": 4}}
    assert list(result.errors) == ["b"] and "'kidney' is none of the labels in dataset.json" in result.errors["b"]


def test_a_damaged_file_costs_its_case_only(named: Name, tmp_path: Path) -> None:
    (tmp_path / "bad.dcm").write_bytes(b"nothing")
    write_rtstruct(tmp_path / "good.dcm", {"liver": []})
    sources = {
        name: [ImageSource("rtstruct", tmp_path / f"{name}.dcm", (tmp_path / f"{name}.dcm",))]
        for name in ("bad", "good")
    }
    result = name_labels(sources, {})
    assert list(result.sources) == ["good"] and "bad.dcm" in result.errors["bad"]


def test_plain() -> None:
    assert plain_name("Left  Lung_") == plain_name("LEFT_LUNG") == "leftlung"
