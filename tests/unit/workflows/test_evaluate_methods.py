import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import medseg
from medseg.cli.main import app
from medseg.errors import LabelError, SourceError
from medseg.evaluation.comparison_json import read_method_comparison
from medseg.workflows.evaluate_methods import EvaluatedMethods, find_methods


@pytest.fixture
def folders(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    """References, the methods good and bad, and 'seeds' with two seeds: a box, by 0 to 3 voxels off."""
    shifts = {"references": 0, "good": 1, "bad": 3, "seeds/1": 1, "seeds/2": 2}
    for name, shift in shifts.items():
        for case in range(6):
            label_map = np.zeros((20, 16, 12), np.uint8)
            label_map[4 + shift : 12 + shift, 4 : 10 + case % 3, 3:8] = 1
            write_image(tmp_path / name / f"case_{case}.nii.gz", label_map)
    return tmp_path


def test_several_predictions_are_compared_and_written(folders: Path) -> None:
    compared = medseg.evaluate(
        [folders / name for name in ("bad", "good", "seeds")], folders / "references", folders / "out", workers=1
    )
    assert isinstance(compared, EvaluatedMethods)
    standings = compared.comparison.metrics["dice"].over_labels.standings
    assert {name: standing.place for name, standing in standings.items()} == {"good": 1, "seeds": 2, "bad": 3}
    assert read_method_comparison(folders / "out" / "comparison.json") == compared.as_record()
    content = json.loads((folders / "out" / "comparison.json").read_text())
    assert content["seeds"] == {"bad": 1, "good": 1, "seeds": 2}
    assert content["metrics"]["dice"]["over_labels"]["differences"][0]["noise"] > 0
    assert "Wilcoxon" in content["definitions"]["p"]
    for run in ("bad", "good", "seeds/1", "seeds/2"):
        assert (folders / "out" / run / "metrics.json").is_file()


def test_a_case_that_one_method_lacks_is_told_and_the_worst_of_it(folders: Path) -> None:
    (folders / "good" / "case_3.nii.gz").unlink()
    paths = [folders / "bad", folders / "good"]
    compared = medseg.evaluate(paths, folders / "references", folders / "out", metrics=["dice"], workers=1)
    assert len(compared.comparison.cases) == 6
    assert [problem.case_id for problem in compared.problems] == ["case_3"]
    (record,) = [each for each in compared.evaluations["good"][0].records if each.case_id == "case_3"]
    assert (record.status, record.values["dice"]) == ("missed", 0.0)
    assert "counts as missed" in (folders / "out" / "report.html").read_text()
    others = medseg.evaluate(paths, folders / "references", workers=1, failed="left-out")
    assert len(others.comparison.cases) == 5
    assert [problem.case_id for problem in others.problems] == ["case_3"]


def test_methods_have_the_shortest_names_that_differ(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a/validation", "b/validation", "c")]
    assert list(find_methods(paths[:2])) == ["a/validation", "b/validation"]
    assert list(find_methods(paths[1:])) == ["validation", "c"]
    with pytest.raises(SourceError, match="named twice"):
        find_methods([tmp_path, tmp_path])


def test_one_prediction_in_a_list_is_refused(folders: Path) -> None:
    with pytest.raises(SourceError, match="cannot be compared"):
        medseg.evaluate([folders / "good"], folders / "references")


def test_the_command_line_prints_a_ranking_with_noise(folders: Path) -> None:
    names = [str(folders / name) for name in ("good", "seeds", "references")]
    result = CliRunner().invoke(app, ["evaluate", *names, "--metrics", "dice", "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "place kept" in result.output.replace("\n", " ")
    assert "good - seeds: +0." in result.output
    assert "is noise here" in " ".join(result.output.split())
    assert "HD95" not in result.output


def test_tolerances_by_label(folders: Path) -> None:
    arguments = ["evaluate", str(folders / "bad"), str(folders / "references"), "--workers", "1", "--json"]
    names = ["--tolerance-mm", "3", "--tolerance-mm", "label_1=1.5"]
    result = CliRunner().invoke(app, [*arguments, *names])
    assert json.loads(result.stdout)["tolerance_mm"] == {"label_1": 1.5}
    with pytest.raises(LabelError, match="'liver', which is none of label_1"):
        medseg.evaluate(folders / "bad", folders / "references", tolerance_mm={"liver": 2.0}, workers=1)
    refused = CliRunner().invoke(app, [*arguments, "--tolerance-mm", "liver=far"])
    assert refused.exit_code != 0
