"""The images of a case against each other, and of one case against the others."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medseg.dataset.cases import Case
from medseg.dataset.channel_order import told_of_channels, usual_number
from medseg.dataset.image_warnings import copies_among
from medseg.dataset.reading import have_one_frame
from medseg.inspection.finding import Finding, doubtful
from medseg.inspection.series import Series, edges
from medseg.io.source import ImageSource
from medseg.volume import GRID_TOLERANCE

# Voxel sizes that differ by more than this factor over a dataset are worth a note.
SPACING_FACTOR = 2.0

SeriesOf = Mapping[ImageSource, Series]


def channel_grid_findings(case: Case, series_of: SeriesOf) -> Iterator[Finding]:
    """Yields images of one case that lie on different grids."""
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


def channel_count_findings(
    cases: Sequence[Case], names: Sequence[str], series_of: SeriesOf, sound: Collection[str]
) -> Iterator[Finding]:
    """Yields cases with another number of channels than most of the ``sound`` ones."""
    counts = {case.case_id: sum(series_of[source].n_channels for source in case.images) for case in cases}
    usual = usual_number([counts[case.case_id] for case in cases if case.case_id in sound], names)
    if cases and 1 < len(names) != usual:
        yield Finding("warning", "channel-names", cases[0].images[0].path, told_of_channels(names, usual))
    for case in cases:
        if case.case_id in sound and counts[case.case_id] != usual:
            what = f"number of channels is {counts[case.case_id]}, most cases have {usual}"
            to_do = "give all cases the same channels, or select images with --images"
            yield Finding("problem", "channel-count", case.images[0].path, what, to_do, case.case_id)


def spacing_findings(path: Path, cases: Sequence[Case], series_of: SeriesOf) -> Iterator[Finding]:
    """Yields a note where voxel sizes vary much. ``path`` is the source."""
    grids = [grid for case in cases if (grid := series_of[case.images[0]].grid) and case.images[0].kind != "image2d"]
    spacings = [grid.oriented_as("RAS").spacing for grid in grids]
    if any(max(along) > SPACING_FACTOR * min(along) for along in zip(*spacings, strict=True)):
        what = f"voxel sizes vary from case to case: {edges(spacings)} mm"
        to_do = "nothing: preprocess brings all to one; leave out cases that are too coarse for what is sought"
        yield Finding("note", "mixed-spacing", path, what, to_do)


def copy_findings(cases: Sequence[Case], series_of: SeriesOf) -> Iterator[Finding]:
    """Yields cases whose first images are one and the same."""
    for doubt, case in copies_among(case for case in cases if series_of[case.images[0]].grid is not None):
        yield replace(doubtful(doubt), case_id=case.case_id)
