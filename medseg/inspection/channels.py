"""The channels of a case, and of one case against the others."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from medseg.dataset.cases import Case
from medseg.dataset.reading import have_one_frame
from medseg.inspection.finding import Finding
from medseg.inspection.series import Series
from medseg.io.source import ImageSource
from medseg.volume import GRID_TOLERANCE

# Voxel sizes that differ by more than this factor over a dataset are worth a note.
SPACING_FACTOR = 2.0

SeriesOf = Mapping[ImageSource, Series]


def channel_grid_findings(case: Case, series_of: SeriesOf) -> Iterator[Finding]:
    """Images of one case on different grids."""
    first = series_of[case.images[0]].grid
    for source in case.images[1:]:
        grid = series_of[source].grid
        if first is None or grid is None:
            continue
        difference = first.difference(grid.oriented_as(first.orientation), GRID_TOLERANCE)
        if difference is None:
            continue
        what = f"does not lie on the grid of {case.images[0].path.name}: {difference}"
        if have_one_frame(case.images[0], source):
            to_do = "nothing: they have one frame of reference, and it is resampled to that grid"
            yield Finding("note", "channel-grid", source.path, what, to_do, case.case_id)
        else:
            to_do = "if both show one place, say so with --registered, and it is resampled to that grid"
            yield Finding("problem", "channel-grid", source.path, what, to_do, case.case_id)


def channel_count_findings(cases: Sequence[Case], names: Sequence[str], series_of: SeriesOf) -> Iterator[Finding]:
    """Cases with another number of channels than the rest."""
    counts = {case.case_id: sum(series_of[source].n_channels for source in case.images) for case in cases}
    numbers = Counter(counts.values())
    usual = len(names) if len(names) in numbers else numbers.most_common(1)[0][0]
    for case in cases:
        if counts[case.case_id] != usual:
            what = f"number of channels is {counts[case.case_id]}, most cases have {usual}"
            to_do = "give all cases the same channels, or select images with --images"
            yield Finding("problem", "channel-count", case.images[0].path, what, to_do, case.case_id)


def variety_findings(cases: Sequence[Case], names: Sequence[str], series_of: SeriesOf) -> Iterator[Finding]:
    """Channels that mix modalities, and voxel sizes that vary much."""
    for i, name in enumerate(names):
        by_modality = defaultdict(list)
        for case in cases:
            if i < len(case.images) and case.images[i].modality:
                by_modality[case.images[i].modality].append(case)
        if len(by_modality) > 1:
            listed = ", ".join(f"{modality} ({len(of_one)} cases)" for modality, of_one in sorted(by_modality.items()))
            fewest = min(by_modality.values(), key=len)[0]
            to_do = "select one with --images, unless a network is to learn all of them as if they were one"
            path = fewest.images[i].path
            yield Finding("warning", "mixed-modalities", path, f"channel '{name}' mixes {listed}", to_do)
    grids = [grid for case in cases if (grid := series_of[case.images[0]].grid) and case.images[0].kind != "image2d"]
    if grids:
        spacings = np.array([grid.oriented_as("RAS").spacing for grid in grids])
        low, high = spacings.min(axis=0), spacings.max(axis=0)
        if (high > SPACING_FACTOR * low).any():
            ranges = " × ".join(f"{a:.3g}–{b:.3g}" for a, b in zip(low, high, strict=True))
            what = f"voxel sizes vary from case to case: {ranges} mm"
            to_do = "nothing: preprocess brings all to one; leave out cases that are too coarse for what is sought"
            yield Finding("note", "mixed-spacing", cases[0].images[0].path, what, to_do)
