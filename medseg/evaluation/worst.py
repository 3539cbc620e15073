"""Which cases to look at first."""

from collections.abc import Sequence

import numpy as np

from medseg.evaluation.case import LabelMetrics
from medseg.metrics.definitions import METRICS


def deciding_metric(records: Sequence[LabelMetrics]) -> str | None:
    """Returns the first metric that was measured and says which way is better: Dice, unless it was left out."""
    measured = records[0].values if records else {}
    return next((name for name in measured if METRICS[name].better != "neither"), None)


def worst_first(records: Sequence[LabelMetrics]) -> dict[str, float]:
    """Returns each case's mean of the deciding metric over its labels, the worst case first.

    Cases of which no value is defined are left out.
    """
    metric = deciding_metric(records)
    if metric is None:
        return {}
    values: dict[str, list[float]] = {}
    for record in records:
        value = record.values.get(metric)
        if value is not None:
            values.setdefault(record.case_id, []).append(value)
    means = {case_id: float(np.mean(of_case)) for case_id, of_case in values.items()}
    highest_first = METRICS[metric].better == "low"
    return dict(sorted(means.items(), key=lambda item: item[1], reverse=highest_first))
