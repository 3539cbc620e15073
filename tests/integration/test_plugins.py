"""The plugin of docs/networks.md, from training to masks."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from doc_pages import blocks
from safetensors.numpy import load_file
from typer.testing import CliRunner

import medseg
from medseg.cli.main import app
from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.errors import ConfigError, MedsegError
from medseg.losses import create_loss
from medseg.plugins import (
    PluginError,
    forget_plugins,
    load_plugins,
    register_callback,
    register_optimizer,
    register_schedule,
)
from medseg.training import Callback, Epoch, Trainer
from medseg.training.optimizers import make_optimizer
from medseg.training.schedule import learning_rate

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Bring your own network, loss, transform")[2].partition("\n## ")[0]


def block(language: str, number: int = 0) -> str:
    return blocks(SECTION, language)[number]


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "lab.py").write_text(block("python"))
    yield tmp_path / "lab.py"
    forget_plugins()


def test_the_plugin_trains_and_its_model_predicts(plugin: Path, prepared: PreparedDataset, tmp_path: Path) -> None:
    run, image = tmp_path / "run", prepared.image_paths(next(iter(prepared.cases)))[0]
    settings = [
        "network.arguments.width=4", "loss.name=hard-voxels", "loss.arguments={part: 0.5}", "training.batch_size=2",
        "augmentation.transforms=[{name: clipped, keys: [image]}]", "training.steps_per_epoch=2",
    ]  # fmt: skip
    arguments = ["train", str(prepared.folder), "-o", str(run), "--network", "lab-net", "--epochs", "2", "--dims", "2"]
    arguments += ["--device", "cpu", "--plugin", str(plugin), *(f"--set={each}" for each in settings)]
    trained = CliRunner().invoke(app, arguments)
    assert trained.exit_code == 0, trained.exception
    assert re.findall(r"^step (\d): loss \d", trained.output, re.MULTILINE) == ["2", "4"]
    predict = ["predict", str(run), str(image), "-o", str(tmp_path / "masks"), "--device", "cpu"]
    forget_plugins()
    refused = CliRunner().invoke(app, predict)
    assert isinstance(refused.exception, MedsegError)
    assert "there is no network 'lab-net'" in str(refused.exception) and "--plugin" in str(refused.exception)
    predicted = CliRunner().invoke(app, [*predict, "--plugin", str(plugin)])
    assert predicted.exit_code == 0, predicted.exception
    assert list((tmp_path / "masks").glob("*.nii.gz"))


TINY = ["training.batch_size=2", "training.steps_per_epoch=2", "training.epochs=4", "network.features=[4,8,8]"]


def rates(run: Path) -> list[float]:
    with (run / "log.csv").open() as file:
        return [float(row["learning_rate"]) for row in csv.DictReader(file)]


def kept_by_the_optimizer(run: Path) -> set[str]:
    """Names of what it keeps of each parameter."""
    names = load_file(run / "checkpoint" / "last.safetensors")
    return {name.rpartition(".")[2] for name in names if name.startswith("optimizer.")}


def test_optimizer_schedule_and_callback_of_a_plugin_are_named_in_yaml(
    plugin: Path, prepared: PreparedDataset, tmp_path: Path
) -> None:
    run, settings = tmp_path / "run", tmp_path / "lab.yaml"
    settings.write_text(block("yaml", 1))
    arguments = ["train", str(prepared.folder), "-o", str(run), "--dims", "3", "--device", "cpu", "-c", str(settings)]
    arguments += [f"--set={each}" for each in [*TINY, "training.warm_up=0", "training.learning_rate=0.01"]]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, MedsegError)
    assert "there is no such optimizer" in str(refused.exception) and "--plugin" in str(refused.exception)
    trained = CliRunner().invoke(app, [*arguments, "--plugin", str(plugin)])
    assert trained.exit_code == 0, trained.exception
    assert re.findall(r"^step (\d): loss \d", trained.output, re.MULTILINE) == ["4", "8"]
    assert rates(run) == pytest.approx([0.01 * (1 - step / 8) for step in (1, 3, 5, 7)])
    assert kept_by_the_optimizer(run) == {"momentum_buffer"}
    again = ["train", str(prepared.folder), "-o", str(run), "--device", "cpu", "--resume", "--epochs", "5"]
    resumed = CliRunner().invoke(app, [*again, "--plugin", str(plugin)])
    assert resumed.exit_code == 0, resumed.exception
    forget_plugins()
    refused = CliRunner().invoke(app, again)
    assert isinstance(refused.exception, MedsegError)
    assert "config.yaml: training.optimizer cannot be 'lab-sgd'" in str(refused.exception)


def test_the_same_from_python(plugin: Path, prepared: PreparedDataset, tmp_path: Path) -> None:
    """What is registered in a notebook needs no file."""
    steps: list[int] = []

    @register_optimizer("mine")
    def mine(parameters: Any, lr: float) -> torch.optim.Optimizer:
        return torch.optim.Adagrad(parameters, lr=lr)

    @register_schedule("flat")
    def flat(_done: float) -> float:
        return 1.0

    @register_callback("counting")
    class Counting(Callback):
        def __init__(self, begin: int = 0) -> None:
            self.begin = begin

        def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
            steps.append(self.begin + epoch.step)

    own = ["training.optimizer=mine", "training.schedule=flat", "training.callbacks=[{name: counting, begin: 100}]"]
    config = load(overrides=[*TINY, *own, "training.warm_up=0", "training.learning_rate=0.01"])
    medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu")
    assert steps == [102, 104, 106, 108]
    assert rates(tmp_path / "run") == pytest.approx([0.01] * 4)
    assert "sum" in kept_by_the_optimizer(tmp_path / "run")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("training.optimizer=lab-sdg", "there is no such optimizer; did you mean 'lab-sgd'"),
        ("training.schedule=cosinus", "there is no such schedule; did you mean 'cosine'"),
        ("training.callbacks=[{name: tolt}]", "there is no such callback; did you mean 'told'"),
        ("training.callbacks=[{name: told, often: 2}]", "unexpected keyword argument 'often'"),
        ("training.callbacks=[{every: 2}]", "there is no such callback"),
        ("training.optimizer=torch.RAdamm", "PyTorch has no optimizer 'RAdamm'; did you mean 'RAdam'"),
        ("training.optimizer=torch.LBFGS", "PyTorch has no optimizer 'LBFGS'"),
        ("training.optimizer_arguments={beta: 1}", "muon has none; set training.momentum and training.weight_decay"),
        (
            "training.optimizer=lab-sgd; training.optimizer_arguments={beta: 1}",
            "training.optimizer_arguments of lab-sgd: got an unexpected keyword argument 'beta'",
        ),
        (
            "training.optimizer=torch.RAdam; training.optimizer_arguments={eps: -1}",
            "training.optimizer: torch.RAdam cannot be built .*epsilon",
        ),
    ],
)
def test_names_and_arguments_that_are_none(plugin: Path, overrides: str, message: str) -> None:
    load_plugins([plugin])
    with pytest.raises(ConfigError, match=message):
        make_optimizer(torch.nn.Conv3d(1, 1, 1), 0.1, load(overrides=overrides.split("; ")).training)


def test_an_optimizer_of_pytorch_by_its_name() -> None:
    config = load(overrides=["training.optimizer=torch.RAdam", "training.optimizer_arguments={betas: [0.8, 0.9]}"])
    optimizer = make_optimizer(torch.nn.Conv3d(1, 1, 1), 0.1, config.training)
    assert isinstance(optimizer, torch.optim.RAdam)
    assert (optimizer.param_groups[0]["lr"], list(optimizer.param_groups[0]["betas"])) == (0.1, [0.8, 0.9])


def test_a_schedule_that_gives_no_rate_is_named() -> None:
    @register_schedule("wrong")
    def wrong(done: float) -> float:
        return -done

    try:
        with pytest.raises(PluginError, match="test_plugins.py: the schedule 'wrong' gave -0.5 at 0.500"):
            learning_rate(0.5, 1.0, 0.0, "wrong")
    finally:
        forget_plugins()


def test_the_settings_and_parts_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(block("yaml"))
    config = load([tmp_path / "own.yaml"])
    assert config.model_dump(exclude_unset=True).keys() == yaml.safe_load(block("yaml")).keys()
    create_loss(config.loss.name, **config.loss.arguments)
    exec(compile(block("python", 1), "docs/networks.md", "exec"), {})


@pytest.mark.slow
def test_networks_of_a_plugin_are_compared(plugin: Path, prepared: PreparedDataset, tmp_path: Path) -> None:
    """Each is trained in a process of its own, which is given the plugin, too."""
    folder = tmp_path / "compared"
    arguments = ["compare", str(prepared.folder), "-o", str(folder), "--network", "lab-net", "--dims", "2", "--json"]
    arguments += ["--plugin", str(plugin), "--epochs", "1", "--device", "cpu"]
    for setting in ("network.arguments={width: 4}", "training.steps_per_epoch=1", "training.batch_size=2"):
        arguments += ["--set", setting]
    compared = CliRunner().invoke(app, arguments)
    assert compared.exit_code == 0, compared.output
    network = json.loads(compared.stdout)["networks"]["lab-net"]
    assert network["steps"] == 1 and not network["problems"]
