"""By what a prediction is the same as another one: its UIDs in DICOM follow from that."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_records import record_of

from medseg.dataset.cases import Case
from medseg.device import choose_device
from medseg.inferers.model import Model, load_model, save_model, with_settings, without_rules
from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.networks.registry import build_network
from medseg.plan import Plan
from medseg.postprocessing.components import Rule
from medseg.prediction.case_writing import prediction_digest

CASE = Case("a", (ImageSource("dicom", Path("a"), (Path("a/1"),), series_uid="1.2.3"),))


@pytest.fixture
def model(tmp_path: Path, tiny_plan: Plan) -> Model:
    record = record_of(tiny_plan, {"liver": 1}, ("CT",)).model_copy(
        update={"postprocessing": (Rule(label="liver", largest_component=True),)}
    )
    save_model(tmp_path / "run" / "model", record, build_network(1, 2, tiny_plan.architecture).state_dict())
    return load_model(tmp_path / "run", "cpu")


def digest(model: Model) -> str:
    return prediction_digest(model, CASE)


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        (lambda model: with_settings(model, {"window": (8, 8, 8), "window_batch_size": 1}), True),
        (lambda model: replace(model, device=choose_device("cpu", "fp32"), backend="openvino"), True),
        (lambda model: with_settings(model, {"mirror": True}), False),
        (lambda model: with_settings(model, {"overlap": 0.25}), False),
        (without_rules, False),
    ],
)
def test_settings_that_change_masks_count(model: Model, change: Callable[[Model], Model], is_same: bool) -> None:
    assert (digest(change(model)) == digest(model)) == is_same


def test_weights_labels_and_further_images_count(model: Model, tmp_path: Path) -> None:
    others = {digest(model)}
    for uid in ("1.2.4", "1.2.5"):  # of a second channel; that of the first one is in the UIDs anyway
        second = replace(CASE.images[0], series_uid=uid)
        others.add(prediction_digest(model, replace(CASE, images=(*CASE.images, second))))
    assert len(others) == 3
    renamed = model.record.model_copy(update={"labels": Labels.from_names({"spleen": 1})})
    others.add(digest(replace(model, record=renamed)))
    with torch.no_grad():
        next(iter(model.network.parameters())).add_(1)
    save_model(tmp_path / "other", model.record, model.network.state_dict())
    others.add(digest(replace(model, folder=tmp_path / "other")))
    assert len(others) == 5


def test_the_same_model_elsewhere_is_the_same(model: Model, tmp_path: Path) -> None:
    save_model(tmp_path / "moved", model.record, model.network.state_dict())
    assert digest(load_model(tmp_path / "moved", "cpu")) == digest(model)


def test_a_model_without_a_file_has_none(model: Model) -> None:
    assert digest(replace(model, folder=Path("/nowhere"))) == ""
