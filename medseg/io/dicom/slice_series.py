"""Which slices are one series: those of one SeriesInstanceUID, which is what the standard says, unless they cannot be.

Anonymisers give each slice a study or a patient of its own, and others give all patients one SeriesInstanceUID.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from medseg.io.dicom.geometry import planes_in_order
from medseg.io.dicom.stack import is_even
from medseg.io.dicom.volumes import Slice, positions_of

OWNERS = ("PatientID", "StudyInstanceUID")


@dataclass(frozen=True)
class SliceSeries:
    """The slices of one series.

    Attributes:
        slices: In any order.
        notes: Why they are taken as one series, where that is not clear.
    """

    slices: list[Slice]
    notes: tuple[str, ...] = ()


def series_of(slices: Sequence[Slice]) -> list[SliceSeries]:
    """Returns the series in the slices with one SeriesInstanceUID.

    Slices of several studies or patients are one series where together they lie evenly: each slice has its own, or all
    have one patient and none lies where another one does. Without a SeriesInstanceUID nothing holds them together.
    """
    parts: dict[tuple[str, ...], list[Slice]] = defaultdict(list)
    for slice_ in slices:
        parts[tuple(slice_.header.text(keyword) for keyword in OWNERS)].append(slice_)
    named = slices[0].header.text("SeriesInstanceUID")
    if len(parts) == 1 or not named or not _belong_together(list(parts), list(parts.values())):
        return [SliceSeries(part) for part in parts.values()]
    changing = [name for name, values in zip(OWNERS, zip(*parts, strict=True), strict=True) if len(set(values)) > 1]
    note = f"{' and '.join(changing)} changes within the series ({len(parts)} values): it is held together by its "
    return [SliceSeries(list(slices), (f"{note}SeriesInstanceUID",))]


def _belong_together(owners: Sequence[tuple[str, ...]], parts: Sequence[list[Slice]]) -> bool:
    slices = [slice_ for part in parts for slice_ in part]
    if not all(slice_.plane.is_parallel_to(slices[0].plane) for slice_ in slices):
        return False
    positions = positions_of(slices)
    first_at = dict(zip(positions, slices, strict=True))
    if not is_even(planes_in_order([slice_.plane for slice_ in first_at.values()])):
        return False
    # Any two slices lie evenly: those of two patients do too.
    one_each = all(len(part) == 1 for part in parts) and len(first_at) > 2
    return one_each or (len({patient for patient, _ in owners}) == 1 and len(first_at) == len(slices))
