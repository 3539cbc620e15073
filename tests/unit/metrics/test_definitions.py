import pytest

from medseg.errors import ConfigError
from medseg.metrics.definitions import GROUPS, METRICS, chosen, definitions


def test_names_of_metrics_and_groups_can_be_mixed() -> None:
    assert chosen(["rand", "dice"]) == ["dice", "rand_score", "information_score"]
    assert chosen(GROUPS) == list(METRICS)


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no metric is called 'hd96'; there are dice, .*groups overlap, surface"):
        chosen(["dice", "hd96"])


def test_each_metric_in_the_file_is_defined_there() -> None:
    assert definitions(["dice"]).keys() == {
        "dice", "interval", "over_labels", "empty_masks", "failed", "unknown_values"
    }  # fmt: skip
    assert {"lesion", "lesion_f1"} < definitions(["lesion_f1"]).keys()
