import json
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import nibabel
import numpy as np
import pytest
import torch
from model_records import record_of
from scipy.ndimage import binary_dilation

from medseg.dataset.store import PreparedDataset
from medseg.device import Device
from medseg.errors import ModelError
from medseg.inferers.model import Model, load_model, save_model
from medseg.inferers.model_record import read_model_record
from medseg.networks.registry import build_network
from medseg.postprocessing import choosing
from medseg.postprocessing.choosing import Held, Objective
from medseg.prediction.golden import check_golden, write_golden
from medseg.training import model_rules
from medseg.training.model_rules import OBJECTIVES, choose_postprocessing
from medseg.volume import Geometry


class LabelMapOnGrid(NamedTuple):
    """What is read of a mask."""

    label_map: np.ndarray
    geometry: Geometry = Geometry((40, 20, 20), np.eye(4))


CPU = Device(torch.device("cpu"), torch.float32)


@pytest.fixture
def model(prepared: PreparedDataset, tmp_path: Path) -> Model:
    plan = prepared.plans.plan_3d
    assert plan is not None
    plan = plan.model_copy(
        update={
            "architecture": plan.architecture.model_copy(update={"features": (4,) * len(plan.architecture.features)})
        }
    )
    record = record_of(plan, prepared.labels, prepared.record.channels)
    torch.manual_seed(0)
    network = build_network(1, len(record.outputs), plan.architecture)
    save_model(tmp_path / "model", record, network.state_dict())
    return load_model(tmp_path / "model", CPU)


def test_a_model_that_changed_fails_its_golden_case(model: Model) -> None:
    write_golden(model, model.folder)
    assert check_golden(load_model(model.folder, CPU)) == 1.0
    with torch.no_grad():
        next(p for name, p in reversed(list(model.network.named_parameters())) if p.ndim > 1).mul_(-1)
    with pytest.raises(ModelError, match="gives other labels than where it was trained"):
        check_golden(model)


def test_a_model_without_a_golden_case_says_so(model: Model) -> None:
    with pytest.raises(ModelError, match="no golden case"):
        check_golden(model)


def test_postprocessing_that_helps_is_told_kept_and_used(
    model: Model,
    prepared: PreparedDataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases, masks = list(prepared.cases)[:3], tmp_path / "masks"
    masks.mkdir()
    for case_id in cases:
        reference = nibabel.load(prepared.label_path(case_id))
        predicted = np.asarray(reference.dataobj).copy()
        predicted[:2, :2, :2] = 2  # an island
        nibabel.save(nibabel.Nifti1Image(predicted, reference.affine), masks / f"{case_id}.nii.gz")
    choose_postprocessing(model.folder, masks, prepared, cases)
    assert read_model_record(model.folder).postprocessing == ()
    assert "that takes 10 held-back cases, and there are 3" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr(choosing, "LEAST_CASES", 3)
    monkeypatch.setattr(model_rules, "LEAST_CASES", 3)
    choose_postprocessing(model.folder, masks, prepared, cases)
    record = read_model_record(model.folder)
    (rule,) = record.postprocessing
    assert (rule.label, rule.largest_component) == (prepared.labels.names[0], True)
    assert "3 cases better, 0 worse" in " ".join(capsys.readouterr().err.split())
    assert "the largest component only" in json.dumps(record.metrics["postprocessing"])


def test_small_lesions_are_kept_where_weights_were_chosen_by_lesions(
    model: Model, prepared: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """False alarms of 27 voxels cost more, by Dice and by lesion F1, than two lesions of 12, which are right."""
    reference = np.zeros((40, 20, 20), dtype=np.uint8)
    reference[2:12, 2:12, 2:12] = reference[20:22, 2:4, 2:7] = reference[20:22, 10:12, 2:7] = 1
    predicted = reference.copy()
    predicted[20:22, :, 5:7] = 0  # of the two small ones 12 of 20 voxels are left
    predicted[26:29, 1::5, 1::5] = 1  # 16 false alarms, grown to 3×3×3 voxels
    predicted[26:29] = binary_dilation(predicted[26:29], np.ones((1, 3, 3)))
    cases, value = list(prepared.cases)[:3], np.uint8(prepared.labels.values[0])

    def pair(*_: object) -> tuple[LabelMapOnGrid, LabelMapOnGrid]:
        return LabelMapOnGrid(predicted * value), LabelMapOnGrid(reference * value)

    found = SimpleNamespace(pairs=[SimpleNamespace(prediction=tmp_path, reference=SimpleNamespace(annotated=None))] * 3)
    monkeypatch.setattr(model_rules, "find_pairs", lambda *_: found)
    monkeypatch.setattr(model_rules, "read_pair", pair)
    monkeypatch.setattr(choosing, "LEAST_CASES", 3)
    monkeypatch.setattr(model_rules, "LEAST_CASES", 3)
    choose_postprocessing(model.folder, tmp_path, prepared, cases, "lesion_f1")
    assert read_model_record(model.folder).postprocessing == ()
    choose_postprocessing(model.folder, tmp_path, prepared, cases)
    assert len(read_model_record(model.folder).postprocessing) == 1


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_specks_of_cases_without_a_lesion_count(objective: Objective) -> None:
    empty, lesion = np.zeros((2, 6, 6, 6), dtype=np.uint8)
    lesion[1:5, 1:5, 1:5] = 1
    speck = empty.copy()
    speck[1, 1, 1] = 1
    cases = [Held(lesion, lesion, 0.001), Held(empty, empty, 0.001), Held(speck, empty, 0.001)] * choosing.LEAST_CASES
    (choice,) = choosing.choose_rules(cases, ["lesion"], objective)
    assert choice.rule.min_volume_ml == 0.003 and choice.gain == pytest.approx(1 / 3)
