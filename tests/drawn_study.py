"""A small CT study with a liver and a tumour in it, drawn in every format that label maps come in.

Nothing of medseg is in it: the files are written by SimpleITK and pydicom.
"""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from dicom_drawn import write_rtstruct, write_seg

SHAPE = (10, 12, 4)  # columns, rows, slices
SPACING = (2.0, 2.0, 3.0)
CORNER = (-20.0, 13.0, 7.0)  # of the first voxel, in LPS
SERIES = "1.3.1"
LIVER, TUMOUR = 1, 2


def drawn() -> np.ndarray:
    """A liver with a tumour in it: label map (x, y, z)."""
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[2:8, 3:9, 1:3] = LIVER
    label_map[4:6, 5:7, 1] = TUMOUR
    return label_map


def itk_image(*masks: np.ndarray) -> sitk.Image:
    """Label maps (x, y, z) on the grid of the series; several are components."""
    images = [sitk.GetImageFromArray(np.ascontiguousarray(mask.T)) for mask in masks]
    image = images[0] if len(images) == 1 else sitk.Compose(images)
    image.SetOrigin(CORNER)
    image.SetSpacing(SPACING)
    return image


def write_itk(path: Path) -> Path:
    sitk.WriteImage(itk_image(drawn()), str(path))
    return path


def write_seg_nrrd(path: Path) -> Path:
    """With the tumour in the liver, in a layer of its own."""
    image = itk_image((drawn() > 0).astype(np.uint8), (drawn() == TUMOUR).astype(np.uint8))
    for i, name in enumerate(("liver", "tumour")):
        for key, value in {"ID": f"s{i}", "Name": name, "Layer": i, "LabelValue": 1, "Color": "1 0 0"}.items():
            image.SetMetaData(f"Segment{i}_{key}", str(value))
    sitk.WriteImage(image, str(path))
    return path


def seg_frames(kind: str) -> list[tuple[int, tuple[float, ...], np.ndarray]]:
    """The frames of each slice, of each segment: the tumour lies in the liver, but in a label map."""
    frames = []
    for z in range(SHAPE[2]):
        position = (*CORNER[:2], CORNER[2] + z * SPACING[2])
        plane = drawn()[:, :, z].T
        if kind == "LABELMAP":
            frames.append((0, position, plane))
        for number, mask in ((LIVER, plane > 0), (TUMOUR, plane == TUMOUR)) if kind != "LABELMAP" else ():
            if mask.any():
                frames.append((number, position, mask.astype(np.uint8) * (255 if kind == "FRACTIONAL" else 1)))
    return frames


def contour(mask: np.ndarray, z: int) -> np.ndarray:
    """Corners in LPS mm of the rectangle around a mask (x, y)."""
    (left, top), (right, bottom) = np.argwhere(mask).min(axis=0) - 0.5, np.argwhere(mask).max(axis=0) + 0.5
    index = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return np.array([np.array(CORNER) + np.array((x, y, z)) * SPACING for x, y in index])


def rois() -> dict[str, list[np.ndarray]]:
    """Contours of liver and tumour, slice by slice."""
    masks = {"Liver": drawn() > 0, "GTV-1": drawn() == TUMOUR}
    return {
        name: [contour(mask[:, :, z], z) for z in range(SHAPE[2]) if mask[:, :, z].any()]
        for name, mask in masks.items()
    }


def write_contours(path: Path) -> Path:
    return write_rtstruct(path, rois(), referenced_series=SERIES)


def write_frames(path: Path, kind: str = "BINARY") -> Path:
    fractional = {"MaximumFractionalValue": 255, "SegmentationFractionalType": "OCCUPANCY"}
    return write_seg(
        path, seg_frames(kind), names={1: "liver", 2: "tumour"}, kind=kind, spacing=SPACING[:2], thickness=3.0,
        between=3.0, **(fractional if kind == "FRACTIONAL" else {}),
    )  # fmt: skip
