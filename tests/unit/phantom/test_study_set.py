"""The study set on disk, as independent readers see it."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.phantom.anatomy import LABELS
from medseg.phantom.study_set import StudySet, make_study_set


@pytest.fixture(scope="module")
def study_set(tmp_path_factory: pytest.TempPathFactory) -> StudySet:
    return make_study_set(tmp_path_factory.mktemp("studies"), n_train=3, n_test=2, seed=7)


def read_study(part: Path, case_id: str) -> tuple[sitk.Image, sitk.Image]:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(part / "images" / case_id)))
    return reader.Execute(), sitk.ReadImage(str(part / "labels" / f"{case_id}.nii.gz"))


def cases(study_set: StudySet) -> list[tuple[Path, str]]:
    return [
        (part, folder.name)
        for part in (study_set.train, study_set.test)
        for folder in sorted((part / "images").iterdir())
    ]


def test_layout(study_set: StudySet) -> None:
    assert [case_id for _, case_id in cases(study_set)] == [
        "patient_01", "patient_02", "patient_03", "unseen_01", "unseen_02"
    ]  # fmt: skip
    assert sorted(path.name for path in study_set.test_labels.iterdir()) == [
        "unseen_01.nii.gz",
        "unseen_02.nii.gz",
    ]
    assert study_set.test_images == study_set.test / "images"
    content = json.loads((study_set.train / "dataset.json").read_text())
    assert content == {"channel_names": {"0": "CT"}, "labels": {"background": 0, **LABELS}}


def test_labels_lie_on_the_grid_of_their_series(study_set: StudySet) -> None:
    for part, case_id in cases(study_set):
        image, label_map = read_study(part, case_id)
        assert image.GetSize() == label_map.GetSize()
        np.testing.assert_allclose(image.GetOrigin(), label_map.GetOrigin(), rtol=0, atol=1e-3)
        np.testing.assert_allclose(image.GetSpacing(), label_map.GetSpacing(), rtol=0, atol=1e-4)
        np.testing.assert_allclose(image.GetDirection(), label_map.GetDirection(), rtol=0, atol=1e-5)


def test_labels_lie_on_their_organs(study_set: StudySet) -> None:
    """HU under the labels: bone is brighter than liver, and no organ holds air or fat."""
    for part, case_id in cases(study_set):
        image, label_map = map(sitk.GetArrayFromImage, read_study(part, case_id))
        liver, spine = (np.median(image[label_map == LABELS[name]]) for name in ("liver", "spine"))
        assert 20 < liver < 140
        assert spine > liver + 40
        inside = np.isin(label_map, [LABELS["liver"], LABELS["spleen"]])
        assert (image[inside] < -60).mean() < 0.03


def test_the_last_patient_of_each_set_lies_on_a_tilted_grid(study_set: StudySet) -> None:
    supine = np.eye(3)
    for part, case_id in cases(study_set):
        direction = np.reshape(read_study(part, case_id)[0].GetDirection(), (3, 3))
        np.testing.assert_allclose(direction.T @ direction, supine, atol=1e-6)
        # The angle of a rotation, from its trace.
        degrees = np.degrees(np.arccos(min(1.0, (np.trace(direction) - 1) / 2)))
        assert degrees == pytest.approx(14.4 if case_id in ("patient_03", "unseen_02") else 0, abs=0.2)


def test_right_is_right_in_every_study(study_set: StudySet) -> None:
    for part, case_id in cases(study_set):
        _, label_map = read_study(part, case_id)
        statistics = sitk.LabelShapeStatisticsImageFilter()
        statistics.Execute(label_map)
        left_of = {name: statistics.GetCentroid(value)[0] for name, value in LABELS.items()}  # LPS
        assert left_of["liver"] < left_of["spine"] < left_of["spleen"]
        assert left_of["kidney_right"] < left_of["spine"] < left_of["kidney_left"]


def test_patients_differ_in_grid_and_origin(study_set: StudySet) -> None:
    images = [read_study(part, case_id)[0] for part, case_id in cases(study_set)]
    assert len({image.GetSpacing()[0] for image in images}) == 5
    assert len({image.GetSpacing()[2] for image in images}) > 1
    assert len({image.GetOrigin() for image in images}) == 5


def test_an_unseen_patient_does_not_depend_on_the_number_of_others(study_set: StudySet, tmp_path: Path) -> None:
    other = make_study_set(tmp_path, n_train=0, n_test=2, seed=7)
    for name in ("unseen_01", "unseen_02"):
        files = {p.name: p.read_bytes() for p in (other.test_images / name).iterdir()}
        assert files == {p.name: p.read_bytes() for p in (study_set.test_images / name).iterdir()}


def test_another_seed_makes_other_patients(study_set: StudySet, tmp_path: Path) -> None:
    other = make_study_set(tmp_path, n_train=0, n_test=1, seed=8)
    one, two = read_study(study_set.test, "unseen_01")[0], read_study(other.test, "unseen_01")[0]
    assert one.GetOrigin() != two.GetOrigin()
