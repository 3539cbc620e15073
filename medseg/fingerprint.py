"""What was measured on the cases of a dataset. Data only; ``medseg.planning`` measures, and derives plans from it."""

from typing import Self

from pydantic import model_validator

from medseg.plan import NormalizationKind
from medseg.records import Record
from medseg.volume import Shape3, Spacing3

# Of the values of a case, what is kept in a fingerprint.
PERCENTS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0)


class Intensities(Record):
    """Statistics of one channel over the foreground of all cases (over all voxels where there are no labels)."""

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class UsualValues(Record):
    """How the values of one channel are spread in each of ``cases`` cases.

    It has the lowest, the median and the highest over the cases of each percentile (``medseg.transforms.intensities``,
    which says what is measured and compared).
    """

    kind: NormalizationKind
    nonzero: bool
    cases: int
    percents: tuple[float, ...]
    lowest: tuple[float, ...]
    median: tuple[float, ...]
    highest: tuple[float, ...]
    width: tuple[float, float]  # from a case's lowest to its highest percentile: the narrowest and the widest
    largest_difference: float | None  # of a case from all others; None of a single case

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.percents != PERCENTS or {len(self.lowest), len(self.median), len(self.highest)} != {len(PERCENTS)}:
            raise ValueError(f"percentiles should be those at {PERCENTS}")
        return self


class Fingerprint(Record):
    """What was measured. Shapes and spacings are those of the oriented and cropped cases."""

    n_cases: int
    shapes: tuple[Shape3, ...]
    spacings: tuple[Spacing3, ...]
    # Median voxels that cropping to non-zero leaves, as part of all voxels.
    cropped_part: float
    intensities: tuple[Intensities, ...]  # one a channel
    usual_values: tuple[UsualValues, ...] = ()  # one a channel; () in older prepared folders
