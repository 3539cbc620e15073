"""Cases that went wrong: what is measured of predictions."""

from pathlib import Path

from medseg.workflows.evaluate import evaluate


def test_a_false_alarm_of_a_value_that_no_reference_has_drops_no_case(cases_that_go_wrong: Path) -> None:
    folder = cases_that_go_wrong / "03_evaluate_drops_worst" / "e6"
    evaluation = evaluate(folder / "pred", folder / "ds" / "labelsTr", metrics=["dice"], workers=1)
    organ = evaluation.summary.labels["organ"].metrics["dice"]
    assert (organ.mean, organ.n) == (0.75, 4)
    assert evaluation.summary.labels["tumour"].statuses["false_alarm"] == 1
    assert evaluation.problems == ()
