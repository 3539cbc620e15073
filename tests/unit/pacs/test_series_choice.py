"""Which series of a study a model is run on, and why on none."""

from pathlib import Path

import numpy as np
import pytest
from dicom_kinds import KINDS, Kind, write_kind
from model_records import record_of
from pydicom.uid import generate_uid

from medseg.inferers.model_record import ModelRecord
from medseg.pacs.series_choice import StudyPlan, study_plan
from medseg.pacs.settings import SeriesRule
from medseg.plan import Plan
from medseg.transforms.intensities import usual_values


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four CT series and one MR of one study; series 1 is the nearest to 1 mm."""
    series = {
        "thin": (Kind(heights=tuple(float(i) for i in range(20))), {"SeriesDescription": "thin, portal venous"}),
        "thick": (KINDS["CT"], {"SeriesDescription": "thick"}),
        "coronal": (KINDS["coronal"], {"SeriesDescription": "MPR", "BodyPartExamined": "ABDOMEN"}),
        "scout": (Kind(heights=(0.0,)), {"SeriesDescription": "scout"}),
        "mr": (KINDS["MR"], {"SeriesDescription": "T1 FLAIR"}),
    }
    uid, folder = generate_uid(), tmp_path_factory.mktemp("study")
    for name, (kind, tags) in series.items():
        write_kind(folder / name, kind, StudyInstanceUID=uid, **tags)
    return folder


def planned(study: Path, record: ModelRecord, *rules: dict[str, object], caller: str = "") -> StudyPlan:
    known = [SeriesRule.model_validate({"model": "m", **rule}) for rule in rules]
    return study_plan(study, {"m": record}, known, caller)


def chosen(plan: StudyPlan) -> list[str]:
    return [image.files[0].parent.name for choice in plan.choices for image in choice.case.images]


def test_the_series_that_fits_best(study: Path, tiny_plan: Plan) -> None:
    plan = planned(study, record_of(tiny_plan, {"ball": 1}, ("CT",)))
    assert chosen(plan) == ["thin"]
    assert "fits best of 3" in plan.choices[0].reason
    assert chosen(planned(study, record_of(tiny_plan, {"ball": 1}, ("MRI",)))) == ["mr"]
    pet = planned(study, record_of(tiny_plan, {"ball": 1}, ("PET",)))
    assert pet.choices == ()
    assert "the model was trained on PT" in pet.reason


def test_values_unlike_those_of_training_are_left(study: Path, tiny_plan: Plan) -> None:
    rule = tiny_plan.grid.normalization[0]
    random = np.random.default_rng(0)
    usual = usual_values([random.normal(50_000, 10, 200) for _ in range(8)], rule)
    plan = planned(study, record_of(tiny_plan, {"ball": 1}, ("CT",), usual_values=(usual,)))
    assert plan.choices == ()
    assert "voxels" in plan.reason


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"series": {"description": "PORTAL"}}, ["thin"]),
        ({"series": {"body_part": "abdomen"}}, ["coronal"]),
        ({"series": {"orientation": "coronal", "modality": "CT"}}, ["coronal"]),
        ({"series": {"modality": ["MR", "CT"], "description": "flair"}}, ["mr"]),
        ({"series": {"thickness_mm": [4, 5]}}, []),
        ({"series": {"image_type": ["ORIGINAL", "axial"], "description": "thick"}}, ["thick"]),
        ({"series": {"modality": "CT", "least_slices": 2}, "take": "all"}, ["thin", "coronal", "thick"]),
        ({"series": {"modality": "CT"}, "callers": ["CT1"]}, ["thin"]),
        ({"series": {"modality": "CT"}, "callers": ["CT2"]}, []),
    ],
)
def test_rules(study: Path, tiny_plan: Plan, rule: dict[str, object], expected: list[str]) -> None:
    plan = planned(study, record_of(tiny_plan, {"ball": 1}, ("CT",)), rule, caller="CT1")
    assert sorted(chosen(plan)) == sorted(expected)
    assert bool(plan.reason) == (not expected)


def test_channels_are_found_by_name_and_by_rules(study: Path, tiny_plan: Plan) -> None:
    grid = tiny_plan.grid.model_copy(update={"normalization": tiny_plan.grid.normalization * 2})
    record = record_of(tiny_plan.model_copy(update={"grid": grid}), {"ball": 1}, ("FLAIR", "portal"))
    assert chosen(planned(study, record)) == ["mr", "thin"]
    rule: dict[str, object] = {"channels": {"portal": {"description": "thick"}}}
    assert chosen(planned(study, record, rule)) == ["mr", "thick"]
    other = record_of(tiny_plan.model_copy(update={"grid": grid}), {"ball": 1}, ("FLAIR", "T2"))
    assert "channel T2" in planned(study, other).reason


def test_a_study_without_images(tmp_path: Path, tiny_plan: Plan) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "a.dcm").write_bytes(b"no image at all")
    plan = planned(tmp_path / "odd", record_of(tiny_plan, {"ball": 1}, ("CT",)))
    assert "no image that can be read" in plan.reason
    assert plan.notes
