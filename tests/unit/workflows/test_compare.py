from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.config import Config
from medseg.evaluation.network_comparison import (
    Estimate,
    NetworkComparison,
    NetworkComparisonRecord,
    NetworkResult,
    estimate,
    read_network_comparison,
)
from medseg.files import write_text
from medseg.report.network_comparison import (
    COLUMNS,
    NetworkValue,
    Panel,
    markdown,
    plot_networks,
    write_network_comparison,
)
from medseg.training.trials import Trial

NOTHING = Estimate(None, None, (), 0)


def test_estimates_leave_out_what_has_no_value_and_widen_with_the_seeds() -> None:
    cases = {f"case_{i}": 0.8 + 0.01 * i for i in range(10)}
    one = estimate([cases])
    assert one.mean == pytest.approx(0.845) and one.cases == 10
    assert one.interval is not None and one.interval[0] < 0.845 < one.interval[1]
    apart = estimate([cases, {case: value - 0.3 for case, value in cases.items()}])
    assert apart.interval is not None and apart.interval[1] - apart.interval[0] > 0.25
    assert apart.seeds == pytest.approx((0.845, 0.545))
    missing = estimate([{**cases, "case_0": np.nan}])
    assert missing.cases == 9 and missing.mean == pytest.approx(0.85)
    assert estimate([{"case": np.nan}]).mean is None
    assert estimate([]).mean is None


def test_the_best_comes_first_and_failures_last() -> None:
    setting = {"dims": 2, "device": "processor", "folds": [0], "seeds": [0], "settings": ["training.max_time=5m"]}
    found = Estimate(0.8, (0.7, 0.9), (0.8,), 3)
    failed = NetworkResult("failed", 0, None, NOTHING, NOTHING, 0, *[None] * 5, problems=("fold 0, seed 0: no memory",))
    worse = NetworkResult("worse", 1, 10**6, Estimate(0.7, None, (0.7,), 1), NOTHING, 2, 10, 5, 0.5, 512, 256, ())
    best = NetworkResult("best", 1, 2 * 10**6, found, found, 0, 10, 5, 0.5, 512, 256, ())
    text = markdown(NetworkComparison(Path(), (failed, worse, best), None, setting))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert rows[0] == list(COLUMNS)
    assert [row[0] for row in rows[2:]] == ["best", "worse", "failed"]
    assert rows[2][1:5] == ["0.800 (0.700–0.900)", "0.80 (0.70–0.90)", "0", "2.00"]
    assert rows[4][1:] == ["–", "–", "0", *["–"] * 6]
    assert "failed failed: fold 0, seed 0: no memory" in text


def test_comparison_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = Estimate(0.8, (0.7, 0.9), (0.8,), 3)
    result = NetworkResult("best", 1, 2 * 10**6, found, found, 0, 10, 5, 0.5, 512, 256, ())
    comparison = NetworkComparison(
        tmp_path, (result,), None, {"dims": 2, "device": "cpu", "folds": [0], "seeds": [0], "settings": []}
    )
    write_network_comparison(comparison)
    read = read_network_comparison(tmp_path / "comparison.json")
    assert read == comparison.as_record()
    assert read.networks["best"].dice.interval == (0.7, 0.9)
    assert "networks" in NetworkComparisonRecord.model_json_schema()["properties"]


def test_the_plot_has_a_mark_for_each_network(tmp_path: Path) -> None:
    scores = Panel("Dice", [NetworkValue(0.8, (0.7, 0.9), (0.75, 0.85)), NetworkValue(None)])
    amounts = Panel("seconds", [NetworkValue(2.0), NetworkValue(1.0)], is_amount=True)
    both = np.asarray(Image.open(plot_networks(["a", "b"], [scores, amounts], tmp_path / "both.png")).convert("RGB"))
    empty = Panel("Dice", [NetworkValue(None), NetworkValue(None)])
    none = np.asarray(Image.open(plot_networks(["a", "b"], [empty, amounts], tmp_path / "none.png")).convert("RGB"))
    blue = [(np.abs(each.astype(int) - (31, 78, 121)).sum(-1) < 30).sum() for each in (both, none)]
    assert blue[0] > blue[1] > 0


def test_a_training_that_was_killed_after_its_metrics_goes_on(tmp_path: Path) -> None:
    trial = Trial("unet", 0, 0, tmp_path, Config())
    write_text(tmp_path / "validation" / "metrics.json", "{}")
    assert not trial.is_finished
    write_text(tmp_path / "report.html", "")
    assert trial.is_finished
