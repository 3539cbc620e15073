"""What ``preprocess`` tells of the cases that it found and checked."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from medseg.dataset.cases import CaseList
from medseg.dataset.label_shapes import shape_notes
from medseg.labels import Labels
from medseg.preparation.checked_case import Checked
from medseg.progress import counted, say, warn

CASES_TOLD = 12


def tell_found(source: str | Path, found: CaseList) -> None:
    """Tells what was found, and what is wrong with it."""
    found.tell(source, f"; channels: {', '.join(found.channels)}")
    for case in found.cases:
        for image in case.images:
            if image.kind == "dicom" and case.label is None:
                say(f"  {case.case_id}: {image.modality} series '{image.description}', {len(image.files)} slices")
    for problem in found.problems:
        warn(str(problem))


def tell_checked(checked: Sequence[Checked], channels: Sequence[str], labels: Labels | None) -> None:
    """Tells what was decided about the cases when they were read, and which labels are small, thin or rare."""
    for i, channel in enumerate(channels[: len(checked[0].resampled)] if checked else ()):
        n_resampled = sum(item.resampled[i] for item in checked)
        if n_resampled:
            say(f"  {channel}: resampled to the grid of {channels[0]} in {counted(n_resampled, 'case')}")
    n_stacks = sum(item.case.images[0].kind == "image2d" and item.measures.source_grid.shape[2] > 1 for item in checked)
    if n_stacks:
        say(f"  the pages of a TIFF are the slices of one volume: {counted(n_stacks, 'case')}")
    _tell_annotated(checked)
    for item in checked:
        for note in item.notes:
            say(f"  {item.case_id}: {note}")
    for shape_note in shape_notes([item.shapes for item in checked], labels):
        say(f"  {shape_note}")


def _tell_annotated(checked: Sequence[Checked]) -> None:
    """Tells how much of each case is annotated; only the range where there are many."""
    parts = {item.case_id: item.measures.annotated_part for item in checked if item.measures.annotated_part < 1}
    if len(parts) > CASES_TOLD:
        low, high = min(parts.values()), max(parts.values())
        say(f"  annotated: {low:.1%} to {high:.1%} of the voxels in {counted(len(parts), 'case')}, all of the others")
    else:
        for case_id, part in parts.items():
            say(f"  {case_id}: {part:.1%} of the voxels are annotated")
    partly = [item for item in checked if item.case.annotated is not None]
    for names, n in Counter(item.case.annotated for item in partly).items():
        say(f"  only {', '.join(names or ())} annotated: {counted(n, 'case')}")
