"""DICOM structured reports read back through pydicom: names, segments and volumes against the label map."""

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset, config, dcmread

from medseg.io.certificates.certificate import Certificate
from medseg.io.certificates.dicom import comparable, slices_of_source
from medseg.io.label_map_volume import LabelMapVolume
from medseg.volume import GRID_TOLERANCE

# Codes of DICOM PS3.16: TID 1411 and 300.
GROUP, TRACKING, SEGMENT, VOLUME, AREA = "125007", "112039", "121191", "118565006", "42798000"
SOURCE_SERIES = "121232"


def check_dicom_sr(path: Path, segmented: LabelMapVolume) -> Certificate:
    """Reads a structured report back and compares the volume of each structure with the label map.

    Args:
        path: The file.
        segmented: What was to be written.

    Raises:
        ValueError: The source does not say where it lies.
    """
    with config.disable_value_validation():
        report = dcmread(path)
        groups = [item for item in _items(report) if _code(item) == GROUP]
        structures, label_map = segmented.labels.structures, segmented.label_map
        remarks = [*_wrong(groups, segmented, report)]
        voxel = (
            prod(segmented.source.spacing)
            if segmented.source and segmented.source.spacing
            else (segmented.geometry.voxel_volume_ml * 1000)
        )
        if label_map.shape[2] == 1:
            voxel /= segmented.geometry.spacing[2]
        different, n_voxels = 0.0, 0
        for structure, group in zip(structures, [] if remarks else groups, strict=not remarks):
            expected = int(np.isin(label_map, structure.values).sum())
            said = next(
                float(item.MeasuredValueSequence[0].NumericValue)
                for item in group.ContentSequence
                if _code(item) in (VOLUME, AREA)
            )
            different, n_voxels = different + abs(said / voxel - expected), n_voxels + expected
    return Certificate(
        reader=f"pydicom {pydicom.__version__}",
        n_voxels=n_voxels,
        n_different=round(different),
        max_distance_mm=0.0,
        tolerance_mm=GRID_TOLERANCE * min(segmented.geometry.spacing),
        remark="; ".join(remarks),
    )


def _wrong(groups: list[Dataset], segmented: LabelMapVolume, report: Dataset) -> Iterator[str]:
    """Yields what is wrong about structures and references."""
    expected = list(range(1, len(segmented.labels.structures) + 1))
    segments = [item for group in groups for item in group.ContentSequence if _code(item) == SEGMENT]
    numbers = [int(each.ReferencedSOPSequence[0].ReferencedSegmentNumber) for each in segments]
    if numbers != expected:
        yield f"it tells of the segments {numbers} instead of {expected}"
    names = [str(item.TextValue) for group in groups for item in group.ContentSequence if _code(item) == TRACKING]
    if [comparable(name) for name in names] != [comparable(each.name) for each in segmented.labels.structures]:
        yield f"it tells of {', '.join(names)} instead of {', '.join(segmented.labels.names)}"
    uids = {str(reference.ReferencedSOPInstanceUID) for reference in _evidence(report)}
    if {slice_.uid for slice_ in slices_of_source(segmented).slices} - uids:
        yield "it does not name all images of the source"
    if {str(each.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for each in segments} - uids:
        yield "it does not name the segmentation that it refers to"


def _evidence(report: Dataset) -> Iterator[Dataset]:
    for study in report.CurrentRequestedProcedureEvidenceSequence:
        for series in study.ReferencedSeriesSequence:
            yield from series.ReferencedSOPSequence


def _items(item: Dataset) -> Iterator[Dataset]:
    """Yields all items of a tree of content."""
    for each in item.get("ContentSequence") or ():
        yield each
        yield from _items(each)


def _code(item: Dataset) -> str:
    name = item.get("ConceptNameCodeSequence") or [Dataset()]
    return str(name[0].get("CodeValue", ""))
