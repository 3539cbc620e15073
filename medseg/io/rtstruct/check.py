"""RT structure sets read back through pydicom, and filled as their reader fills them."""

from collections import defaultdict
from pathlib import Path

import numpy as np
from pydicom import Dataset, config, dcmread

from medseg.io.certificates.certificate import Certificate
from medseg.io.certificates.dicom import StructuresFound, dicom_certificate, slices_of_source
from medseg.io.certificates.raw_slices import LPS_TO_RAS, RawSlices
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.rtstruct.polygons import filled
from medseg.volume import Array


def check_rtstruct(path: Path, segmented: LabelMapVolume) -> Certificate:
    """Reads an RT structure set back, fills its contours, and compares them with the label map.

    Args:
        path: The file.
        segmented: What was to be written.

    Raises:
        ValueError: The source does not say where its slices lie.
    """
    with config.disable_value_validation():
        slices = slices_of_source(segmented)
        return dicom_certificate(_read_rtstruct(dcmread(path), slices), segmented, slices, by_dice=True)


def _read_rtstruct(header: Dataset, slices: RawSlices) -> StructuresFound:
    number_of = {int(item.ROINumber): i for i, item in enumerate(header.StructureSetROISequence)}
    polygons: dict[tuple[int, int], list[Array]] = defaultdict(list)
    references, off_slice = [], 0.0
    for roi in header.ROIContourSequence:
        for contour in roi.get("ContourSequence") or ():
            # Not through pydicom's numbers, of which it would make an object each.
            words = contour.get_item("ContourData").value.split(b"\\")
            points = np.array(words, dtype=np.float64).reshape(-1, 3) @ LPS_TO_RAS[:3, :3]
            number = slices.nearest(points.mean(axis=0))
            corners = slices[number].grid.index(points)
            off_slice = max(off_slice, float(np.abs(corners[:, 2]).max()))
            polygons[number_of[int(roi.ReferencedROINumber)], number].append(corners[:, :2])
            references.append((contour.ContourImageSequence[0], number))

    def mask(roi: int, number: int) -> Array | None:
        own = polygons.get((roi, number))
        return None if own is None else filled(own, slices[number].grid.shape[:2]).T

    names = [str(item.ROIName) for item in header.StructureSetROISequence]
    whole_names = [str(item.get("ROIDescription") or "") for item in header.StructureSetROISequence]
    return StructuresFound(names, whole_names, str(header.FrameOfReferenceUID), references, off_slice, mask)
