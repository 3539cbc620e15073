"""Images whose values are unlike those of the others."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from medseg.dataset.cases import Case
from medseg.dataset.image_warnings import LOOK_AT_IT
from medseg.inspection.channels import SeriesOf
from medseg.inspection.finding import Finding
from medseg.plan import Normalization
from medseg.planning.derive import NONZERO_BELOW, usual_kind
from medseg.transforms.intensities import Floats, profile, unlike_the_others


def odd_value_findings(
    cases: Sequence[Case], channels: Sequence[str], series_of: SeriesOf, sound: Collection[str]
) -> Iterator[Finding]:
    """Yields images whose values are unlike those of the other ``sound`` cases.

    They are compared by the normalization that ``preprocess`` takes by itself, and only where voxels were read.
    """
    profiles = {case.case_id: [q for source in case.images for q in series_of[source].quantiles] for case in cases}
    whole = [case for case in cases if case.case_id in sound and len(profiles[case.case_id]) == len(channels)]
    for i, channel in enumerate(channels):
        varied = [case for case in whole if np.ptp(profiles[case.case_id][i]) > 0]
        of_cases: list[Floats] = [profiles[case.case_id][i] for case in varied]
        zeros = np.median([(each == 0).mean() for each in of_cases]) if of_cases else 0.0
        rule = Normalization(kind=usual_kind(channel), nonzero=bool(1 - zeros < NONZERO_BELOW))
        for at, what in unlike_the_others([profile(each, rule) for each in of_cases], rule).items():
            case = varied[at]
            yield Finding(
                "warning",
                "odd-values",
                case.images[min(i, len(case.images) - 1)].path,
                f"{channel}: {what}",
                LOOK_AT_IT,
                case.case_id,
            )
