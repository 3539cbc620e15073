"""The plugin of docs/networks.md, from training to masks."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.errors import MedsegError
from medseg.losses import create_loss
from medseg.plugins import forget_plugins

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Bring your own network, loss, transform")[2].partition("\n## ")[0]


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE)[number]


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


def test_the_settings_and_parts_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(block("yaml"))
    config = load([tmp_path / "own.yaml"])
    assert config.model_dump(exclude_unset=True).keys() == yaml.safe_load(block("yaml")).keys()
    create_loss(config.loss.name, **config.loss.arguments)
    exec(compile(block("python", 1), "docs/networks.md", "exec"), {})


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
