"""Networks that take prompts, from the command line and from Python."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import medseg
from medseg.cli.main import app
from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.errors import ConfigError
from medseg.inferers.model import load_model
from medseg.inferers.model_record import read_model_record
from medseg.training.run import resolve_plan

SHORT = ["training.epochs=1", "training.steps_per_epoch=3", "training.batch_size=2", "network.features=[4,8,8]"]


@pytest.fixture(scope="module")
def run(prepared: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prompts") / "run"
    settings = [part for setting in SHORT for part in ("--set", setting)]
    result = CliRunner().invoke(app, ["train", str(prepared.folder), "-o", str(folder), "--prompts", *settings])
    assert result.exit_code == 0, result.output
    return folder


def test_its_model_takes_prompts_and_predicts_without(run: Path, prepared: PreparedDataset, tmp_path: Path) -> None:
    model = load_model(run, "cpu")
    prompts = model.record.plan.prompts
    assert prompts is not None and prompts.objects == "labels"
    assert prompts.point_radius_mm == pytest.approx(14 * 2 ** (1 / 3))  # voxels of 1×1×2 mm
    image = prepared.image_paths(prepared.case_ids[0])[0]
    assert medseg.predict(run, image, tmp_path / "masks", device="cpu").predictions
    session = medseg.InteractiveSession(run, image, device="cpu")
    before = session.mask.copy()
    change = session.add_point((12, 11, 6))
    assert session.mask.shape == before.shape
    assert np.array_equal(session.mask != before, session.mask) and change.mask.sum() == session.mask.sum()


def test_it_is_gone_on_with_and_other_networks_begin_with_it(
    run: Path, prepared: PreparedDataset, tmp_path: Path
) -> None:
    cpu = choose_device("cpu")
    kept, _ = resolve_plan(prepared, None, load(overrides=[*SHORT[:3], f"training.init={run}"]), cpu)
    assert kept.prompts == load_model(run, "cpu").record.plan.prompts
    dropped = load(overrides=[*SHORT[:3], f"training.init={run}", "training.prompts=none"])
    assert resolve_plan(prepared, None, dropped, cpu)[0].prompts is None
    anything = load(overrides=[*SHORT, "training.prompts=any"])
    prompts = resolve_plan(prepared, 2, anything, cpu)[0].prompts
    assert prompts is not None and prompts.objects == "any"
    with pytest.raises(ConfigError, match="a network of your own takes none"):
        own = torch.nn.Conv3d(1, 3, 1)
        medseg.train(prepared.folder, tmp_path / "own", config=load(overrides=["training.prompts=any"]), network=own)
    with pytest.raises(ConfigError, match="give one of them"):
        both = load(overrides=["training.prompts=any", f"training.teacher={run}"])
        medseg.train(prepared.folder, tmp_path / "both", config=both)


def test_its_model_says_how_it_answers_to_clicks(run: Path) -> None:
    clicks = read_model_record(run / "model").clicks
    assert clicks is not None and clicks.start == "automatic" and clicks.objects >= 1
    assert list(clicks.dice) == [0, 1, 3, 5] and clicks.dice_of_others is None  # one epoch: the best are the last
    assert "Dice after 5 clicks" in (run / "report.html").read_text()
