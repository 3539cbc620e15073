"""medseg.train with parts of the user's own."""

import csv
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
from medseg.architecture import Architecture
from medseg.config import Config, load
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.errors import ConfigError, ModelError, TrainingError
from medseg.inferers.case_stream import predict_labels
from medseg.inferers.model import load_model
from medseg.inferers.model_record import read_model_record
from medseg.networks import create_network
from medseg.plugins import PluginError, forget_plugins, register_callback
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
    written = load([run / "config.yaml"])
    names = (written.network.name, written.loss.name, written.training.optimizer, written.training.schedule)
    assert names == ("custom", "custom", "custom", "cosine")
    missing = r"your own network and optimizer; give it again: medseg.train\(…, network=…, optimizer=…"
    with pytest.raises(TrainingError, match=missing):
        loss = DiceCELoss(to_onehot_y=True, softmax=True)
        medseg.train(prepared.folder, run, config=longer, device="cpu", resume=True, loss=loss)
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


def test_a_module_is_trained_on_all_folds(prepared: PreparedDataset, tmp_path: Path) -> None:
    """Each fold begins with its weights; their ensemble predicts with the module."""
    network, run = small_unet(), tmp_path / "run"
    before = [parameter.clone() for parameter in network.parameters()]
    config = settings("training.fold=all", "training.folds=2", "training.epochs=1")
    result = medseg.train(prepared.folder, run, config=config, device="cpu", network=network, optimizer=adamw)
    assert (result.finished, result.steps) == (True, 20)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert result.evaluation is not None
    assert len({record.case_id for record in result.evaluation.records}) == len(prepared.cases)
    ensemble = load_model(run, choose_device("cpu"), network=network)
    assert len(ensemble.members) == 2
    first, second = (load_model(folder, choose_device("cpu"), network=network).network for folder in ensemble.members)
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        logits = [each(image).float() for each in (first, second)]
        torch.testing.assert_close(ensemble.network(image), (logits[0] + logits[1]) / 2)
    assert not torch.equal(*logits)
    scan = prepared.image_paths(next(iter(prepared.cases)))[0]
    predicted = medseg.predict(run, scan, tmp_path / "masks", device="cpu", network=network)
    assert not predicted.problems
    assert list((tmp_path / "masks").glob("*.nii.gz"))
    with pytest.raises(ModelError, match="a network of the user's own"):
        medseg.predict(run, scan, device="cpu")


def test_a_network_of_create_network_is_stored_by_its_name(prepared: PreparedDataset, tmp_path: Path) -> None:
    architecture = Architecture(
        features=(4, 8), strides=((1,) * 3, (2,) * 3), kernel_sizes=((3,) * 3,) * 2, convolutions_per_stage=1
    )
    network = create_network("residual-unet", in_channels=1, out_channels=3, plan=architecture, blocks=[1, 1])
    config = settings("training.epochs=1")
    medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu", network=network)
    record = read_model_record(tmp_path / "run" / "model")
    assert record.plan.architecture == network.architecture
    written = load([tmp_path / "run" / "config.yaml"])
    assert (written.network.name, written.network.features) == ("residual-unet", [4, 8])
    assert written.network.arguments == {"blocks": [1, 1]}
    resumed = medseg.train(
        prepared.folder, tmp_path / "run", config=load(overrides=["training.epochs=2"]), device="cpu", resume=True
    )
    assert resumed.steps == 20
    image = prepared.image_paths(next(iter(prepared.cases)))[0]
    assert not medseg.predict(tmp_path / "run", image, device="cpu").problems


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            lambda: UNet(3, 1, 3, channels=(4, 8, 8, 8), strides=(2, 2, 2), norm="instance"),
            r"network: UNet cannot be trained on patches of 12×16×16 voxels: .*; "
            r"set planning.patch_size=\[16, 16, 16\], which it takes",
        ),
        (
            lambda: UNet(3, 2, 3, channels=(4, 8), strides=(2,)),
            r"to have 2 channels, but got 1 .*build it for 1 channel and 3 outputs \(background, ",
        ),
        (lambda: UNet(3, 1, 5, channels=(4, 8), strides=(2,)), "its logits are 2×5×12×16×16, where 2×3×12×16×16 are"),
        (lambda: torch.nn.Conv2d(1, 3, 1), "network: Conv2d cannot be trained on patches of 12×16×16 voxels"),
        (lambda: torch.nn.Conv3d(1, 3, 3), "its logits in evaluation mode are 2×3×10×14×14, where 2×3×12×16×16 are"),
        (
            lambda: create_network("unet", in_channels=1, out_channels=3, spatial_dims=2),
            "network: is a 2D unet, and the plan is 3D; give dims=2",
        ),
    ],
)
def test_a_module_that_does_not_fit_is_refused_before_anything_is_written(
    prepared: PreparedDataset, tmp_path: Path, network: Any, message: str
) -> None:
    config = settings("planning.patch_size=[12,16,16]")
    with pytest.raises(ConfigError, match=message) as error:
        medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu", network=network())
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "run.json").exists()


class Undecided(torch.nn.Conv3d):
    """Looks at values, which have none on the meta device."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image * (1.0 if float(image.sum()) < 1e9 else 0.5))


def test_a_module_that_looks_at_values_is_tried_on_the_device(prepared: PreparedDataset, tmp_path: Path) -> None:
    config = settings("training.epochs=1", "training.steps_per_epoch=2")
    network = Undecided(1, 3, 3, padding=1)
    assert medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu", network=network).steps == 2


def test_a_callback_that_is_none_is_refused_before_anything_is_written(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    one: Any = {"config": settings("training.fold=all", "training.folds=2"), "device": "cpu"}
    with pytest.raises(ConfigError, match="callbacks: Printer is no callback; derive it from medseg.training.Callback"):
        medseg.train(prepared.folder, tmp_path / "run", **one, callbacks=[Printer()])
    register_callback("printer")(Printer)
    try:
        with pytest.raises(PluginError, match="test_train_own_parts.py: Printer is no callback; derive it from"):
            medseg.train(prepared.folder, tmp_path / "run", **one)
        forget_plugins()
        register_callback("printer")(lambda: Printer())
        with pytest.raises(PluginError, match="Printer of a plugin is no callback; derive it from"):
            medseg.train(prepared.folder, tmp_path / "run", config=settings(), device="cpu")
    finally:
        forget_plugins()
    assert not list((tmp_path / "run").rglob("run.json"))


class Printer:
    """It has no base class."""

    def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
        print(epoch.step)


def test_a_schedule_of_ones_own(prepared: PreparedDataset, tmp_path: Path) -> None:
    config = settings(
        "training.epochs=2", "training.steps_per_epoch=2", "training.warm_up=0", "training.learning_rate=0.01"
    )
    medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu", schedule=lambda done: 1 - done)
    with (tmp_path / "run" / "log.csv").open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert rates == pytest.approx([0.0075, 0.0025])
    assert load([tmp_path / "run" / "config.yaml"]).training.schedule == "custom"
    named = settings("training.schedule=custom")
    with pytest.raises(TrainingError, match=r"your own schedule; give it again: medseg.train\(…, schedule=…\)"):
        medseg.train(prepared.folder, tmp_path / "other", config=named, device="cpu")
