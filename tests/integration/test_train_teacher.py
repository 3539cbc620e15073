"""A network that learns from a larger one, from the command line and from Python."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import medseg
from medseg.cli.main import app
from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.errors import ConfigError
from medseg.inferers.model_record import read_model_record
from medseg.training.teacher import Teacher

SHORT = ["training.epochs=1", "training.steps_per_epoch=2", "training.batch_size=2"]
LARGE = [*SHORT, "network.features=[8,16,16]"]


@pytest.fixture(scope="module")
def teacher(prepared: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("teacher") / "large"
    medseg.train(prepared.folder, run, config=load(overrides=LARGE), device="cpu")
    return run


def test_a_student_is_half_as_wide_and_is_compared_with_its_teacher(
    prepared: PreparedDataset, teacher: Path, tmp_path: Path
) -> None:
    settings = [part for setting in SHORT for part in ("--set", setting)]
    command = ["train", str(prepared.folder), "-o", str(tmp_path / "small"), "--teacher", str(teacher), *settings]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    record = read_model_record(tmp_path / "small" / "model")
    assert record.plan.architecture.features == (4, 8, 8)
    compared = record.teacher
    assert compared is not None and compared.name == "large" and compared.cases >= 1
    assert compared.is_good_enough == (compared.dice_of_teacher - compared.dice <= 0.002)
    assert "the teacher reaches a mean Dice" in " ".join(result.output.split())


def test_a_teacher_that_learnt_the_held_back_cases_is_told_of(
    prepared: PreparedDataset, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for fold, is_told in ((0, False), (1, True)):
        for setting in ("teacher", "init"):
            config = load(overrides=[*SHORT, f"training.{setting}={teacher}", f"training.fold={fold}"])
            medseg.train(prepared.folder, tmp_path / f"{setting}-{fold}", config=config, device="cpu")
            said = " ".join(capsys.readouterr().err.split())
            assert (f"training.{setting}: {teacher} was trained on" in said) == is_told, said


def test_what_the_teacher_says_changes_the_weights(prepared: PreparedDataset, teacher: Path, tmp_path: Path) -> None:
    losses = []
    for weight in (1e-6, 5.0):
        config = load(overrides=[*SHORT, f"training.teacher={teacher}", f"training.teacher_weight={weight}"])
        medseg.train(prepared.folder, tmp_path / str(weight), config=config, device="cpu")
        losses.append((tmp_path / str(weight) / "model" / "weights.safetensors").read_bytes())
    assert losses[0] != losses[1]


def test_a_teacher_of_other_data_is_refused(prepared: PreparedDataset, teacher: Path, tmp_path: Path) -> None:
    plan = read_model_record(teacher / "model").plan
    with pytest.raises(ConfigError, match=r"large has other channels \(.*\) than this run \(another\)"):
        Teacher.read(str(teacher), choose_device("cpu")).check(plan, prepared.labels, ("another",))
    config = load(overrides=[*SHORT, f"training.teacher={teacher}", f"training.init={teacher}"])
    with pytest.raises(ConfigError, match="give one of them"):
        medseg.train(prepared.folder, tmp_path / "both", config=config, device="cpu")
    assert not (tmp_path / "both").exists()
