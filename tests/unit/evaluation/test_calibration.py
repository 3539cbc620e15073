import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.metrics import CalibrationErrorMetric
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.evaluation.calibration import N_BINS, calibrate, count
from medseg.labels import Labels
from medseg.workflows.evaluate import evaluate

LIVER = Labels.from_names({"liver": 1})


def voxels(n: int = 20_000, power: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and where the label is: true to the probabilities where ``power`` is 1."""
    random = np.random.default_rng(seed)
    given = random.uniform(0, 1, n)
    return given.astype(np.float32), random.uniform(0, 1, n) < given**power


def test_true_probabilities_are_calibrated_and_others_are_not() -> None:
    true = calibrate([{"liver": count(*voxels())}], LIVER)["liver"]
    assert true.ece < 0.015
    assert true.interval is None
    assert true.brier == pytest.approx(1 / 6, abs=0.005)  # ∫ p(1-p) dp
    too_sure = calibrate([{"liver": count(*voxels(power=2))}], LIVER)["liver"]
    assert too_sure.ece == pytest.approx(1 / 6, abs=0.01)  # ∫ (p - p²) dp
    assert too_sure.bins[7].frequency == pytest.approx(0.25, abs=0.03)
    assert too_sure.bins[7].confidence == pytest.approx(0.5, abs=0.01)


def test_as_monai() -> None:
    given, true = voxels(power=1.7)
    metric = CalibrationErrorMetric(num_bins=N_BINS)
    metric(torch.tensor(given)[None, None, :], torch.tensor(true)[None, None, :].float())
    assert calibrate([{"liver": count(given, true)}], LIVER)["liver"].ece == pytest.approx(
        float(metric.aggregate()), abs=1e-6
    )


def test_cases_are_summed_up_by_bin() -> None:
    given, true = voxels(power=2)
    halves = [{"liver": count(given[part], true[part])} for part in (slice(0, 7000), slice(7000, None))]
    whole, summed = calibrate([{"liver": count(given, true)}], LIVER)["liver"], calibrate(halves, LIVER)["liver"]
    assert summed.ece == pytest.approx(whole.ece)
    assert summed.brier == pytest.approx(whole.brier)
    assert [each.voxels for each in summed.bins] == [each.voxels for each in whole.bins]
    assert summed.interval is not None
    assert summed.interval[0] <= summed.ece <= summed.interval[1]


def test_saved_levels_lie_in_the_bin_below_their_edge() -> None:
    levels = (np.arange(256) / 255).astype(np.float32)  # as predict saves them: some lie on the edges
    assert count(levels, levels > 0.5).voxels.tolist() == [18, *[17] * (N_BINS - 1)]


@pytest.fixture
def predicted(tmp_path: Path, write_image: Callable[..., Path]) -> tuple[Path, Path]:
    """Masks with saved probabilities of a liver, which are 0.75 in a slab of which half is liver; references."""
    masks, references = tmp_path / "masks", tmp_path / "references"
    for case in range(3):
        label_map, probabilities = np.zeros((40, 40, 40), np.uint8), np.zeros((40, 40, 40), np.float32)
        label_map[10:20, 18:22, 18:22] = 1
        probabilities[10:30, 18:22, 18:22] = 0.75
        write_image(masks / f"case_{case}.nii.gz", label_map)
        write_image(references / f"case_{case}.nii.gz", label_map)
        write_image(masks / "probabilities" / f"case_{case}" / "liver.nii.gz", probabilities)
    content = {"labels": LIVER.model_dump(mode="json"), "cases": []}
    (masks / "predictions.json").write_text(json.dumps(content))
    return masks, references


def test_evaluate_finds_probabilities(predicted: tuple[Path, Path], tmp_path: Path) -> None:
    evaluation = evaluate(*predicted, tmp_path / "out", metrics=["dice"], workers=1)
    assert not evaluation.problems
    liver = evaluation.calibration["liver"]
    assert liver.cases == 3
    assert liver.voxels == 3 * 30 * 24 * 24  # the box of the liver, 10 mm wider, up to the edge of the image
    doubted = 3 * 20 * 4 * 4
    assert liver.bins[11].voxels == doubted
    assert liver.bins[11].frequency == 0.5
    assert liver.ece == pytest.approx(0.25 * doubted / liver.voxels)
    assert liver.brier == pytest.approx((0.25**2 + 0.75**2) / 2 * doubted / liver.voxels)
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert content["calibration"]["labels"]["liver"]["ece"] == liver.ece
    assert "Guo" in content["calibration"]["definitions"]["ece"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'aria-label="reliability diagram of liver"' in page
    assert f"ECE <b>{liver.ece:.4f}</b>" in page


def test_without_probabilities_nothing_is_said(predicted: tuple[Path, Path], tmp_path: Path) -> None:
    (predicted[0] / "probabilities").rename(tmp_path / "elsewhere")
    evaluation = evaluate(*predicted, tmp_path / "out", metrics=["dice"], workers=1)
    assert not evaluation.problems
    assert "calibration" not in evaluation.as_json()
    assert "Calibration" not in (tmp_path / "out" / "report.html").read_text()


def test_bad_probabilities_cost_no_more_than_themselves(
    predicted: tuple[Path, Path], tmp_path: Path, write_image: Callable[..., Path]
) -> None:
    maps = [predicted[0] / "probabilities" / f"case_{case}" / "liver.nii.gz" for case in range(3)]
    maps[0].write_bytes(maps[0].read_bytes()[:200])
    write_image(maps[1], np.full((40, 40, 40), 3.5, np.float32))
    arguments = ["evaluate", *map(str, predicted), "-o", str(tmp_path / "out"), "--workers", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert len(content["cases"]) == 3
    assert content["calibration"]["labels"]["liver"]["cases"] == 1
    problems = {problem["case_id"]: problem["problem"] for problem in content["problems"]}
    assert set(problems) == {"case_0", "case_1"}
    assert str(maps[0]) in problems["case_0"]
    assert "values from 3.5 to 3.5; probabilities lie between 0 and 1" in problems["case_1"]
    assert all("\n" not in problem for problem in problems.values())


@pytest.mark.parametrize("wrong", ["grid", "missing", "nan"])
def test_what_is_wrong_with_a_map_is_said(
    wrong: str, predicted: tuple[Path, Path], write_image: Callable[..., Path]
) -> None:
    path = predicted[0] / "probabilities" / "case_2" / "liver.nii.gz"
    if wrong == "missing":
        path.unlink()
    else:
        array = np.full((40, 40, 40), np.nan if wrong == "nan" else 0.5, np.float32)
        write_image(path, array, np.diag((1, 1, 2, 1)) if wrong == "grid" else None)
    (problem,) = evaluate(*predicted, metrics=["dice"], workers=1).problems
    assert str(path) in problem.message
    assert {"grid": "another grid", "missing": "no such file", "nan": "nan"}[wrong] in problem.message


def test_what_is_not_annotated_is_not_counted(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    drawn = np.zeros((8, 8, 8), np.uint8)
    drawn[2:6, 2:6, 2:6] = 1
    given = np.where(drawn == 1, 0.9, 0.2).astype(np.float32)
    write_image(tmp_path / "masks" / "a.nii.gz", drawn)
    write_image(tmp_path / "masks" / "probabilities" / "a" / "label_1.nii.gz", given)
    drawn[:4] = 9
    write_image(tmp_path / "references" / "a.nii.gz", drawn)
    (of,) = evaluate(tmp_path / "masks", tmp_path / "references", ignore_value=9, workers=1).calibration.values()
    assert of.voxels == 4 * 8 * 8
    assert of.brier == pytest.approx((32 * 0.1**2 + 224 * 0.2**2) / 256)
