"""medseg.train with parts of the user's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import Compose, RandFlipd

import medseg
from medseg.config import Config, load
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.errors import ConfigError, ModelError, TrainingError
from medseg.inferers.case_stream import predict_labels
from medseg.inferers.model import load_model
from medseg.training import Callback, Epoch, Trainer


def settings(*overrides: str) -> Config:
    tiny = ["planning.patch_size=[16,16,16]", "training.batch_size=2", "training.steps_per_epoch=10"]
    return load(overrides=[*tiny, "training.seed=3", "training.epochs=3", *overrides])


def small_unet() -> torch.nn.Module:
    torch.manual_seed(0)
    return UNet(3, 1, 3, channels=(4, 8), strides=(2,), norm="instance")


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-2)


class Epochs(Callback):
    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
        self.steps.append(epoch.step)


@pytest.fixture(scope="module")
def run(prepared: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, epochs = tmp_path_factory.mktemp("run"), Epochs()
    result = medseg.train(
        prepared.folder,
        folder,
        config=settings(),
        device="cpu",
        network=small_unet(),
        loss=DiceCELoss(to_onehot_y=True, softmax=True),
        transforms=Compose([RandFlipd(["image", "label"], 0.5, 1)]),
        optimizer=adamw,
        callbacks=[epochs],
    )
    assert (result.finished, result.steps, epochs.steps) == (True, 30, [10, 20, 30])
    assert result.evaluation is not None
    assert result.evaluation.summary.over_labels["dice"].mean > 0.3
    return folder


def test_the_model_says_that_its_network_is_custom(run: Path, prepared: PreparedDataset) -> None:
    record = json.loads((run / "model" / "model.json").read_text())
    assert record["plan"]["architecture"]["name"] == "custom"
    with pytest.raises(ModelError, match=r"a network of the user's own.*medseg.predict\(…, network=module\)"):
        load_model(run, choose_device("cpu"))
    with pytest.raises(ModelError, match="does not fit the network"):
        load_model(run, choose_device("cpu"), network=torch.nn.Conv3d(1, 3, 1))
    model = load_model(run, choose_device("cpu"), network=small_unet())
    case_id = next(iter(prepared.cases))
    image = torch.from_numpy(prepared.image(case_id).astype(np.float32))
    plan = model.record.plan
    predicted = predict_labels(model.network, image, plan, model.record.inference, model.device).numpy()
    assert (predicted == prepared.label_map(case_id)).mean() > 0.8


def test_a_run_with_a_network_of_ones_own_is_resumed_with_it(run: Path, prepared: PreparedDataset) -> None:
    longer = load(overrides=["training.epochs=4"])
    with pytest.raises(
        TrainingError, match=r"trains a network of your own; give it again: medseg.train\(…, network=module"
    ):
        medseg.train(prepared.folder, run, config=longer, device="cpu", resume=True)
    result = medseg.train(
        prepared.folder,
        run,
        config=longer,
        device="cpu",
        resume=True,
        network=small_unet(),
        loss=DiceCELoss(to_onehot_y=True, softmax=True),
        optimizer=adamw,
    )
    assert (result.finished, result.steps) == (True, 40)


def test_a_loss_of_monai_is_summed_over_deep_supervision(prepared: PreparedDataset, tmp_path: Path) -> None:
    config = settings("network.features=[4,8,8,8]", "training.epochs=1")
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    result = medseg.train(prepared.folder, tmp_path, config=config, device="cpu", loss=loss)
    assert result.steps == 10
    assert medseg.predict(tmp_path, prepared.image_paths(next(iter(prepared.cases)))[0], device="cpu").predictions


def test_first_weights_of_a_network_of_ones_own_are_ones_own(prepared: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="load them into your own network"):
        config = settings("training.init=elsewhere")
        medseg.train(prepared.folder, tmp_path, config=config, device="cpu", network=small_unet())


def test_one_module_is_not_trained_on_all_folds(prepared: PreparedDataset, tmp_path: Path) -> None:
    config = settings("training.fold=all", "training.folds=2")
    with pytest.raises(ConfigError, match="network: one module cannot be trained on all folds"):
        medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu", network=small_unet())
    assert not (tmp_path / "run" / "run.json").exists()
