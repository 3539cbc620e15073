"""Readers that share no code with medseg's: nibabel, SimpleITK, pynrrd, Pillow, pydicom, and a few lines by hand.

Each gives voxels ``(channel, x, y, z)`` with their affine to RAS mm (None for pictures), or raises whatever it likes.
"""

import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel
import nrrd
import numpy as np
import pydicom
import SimpleITK as sitk
from PIL import Image

LPS_TO_RAS = np.diag((-1.0, -1.0, 1.0, 1.0))
MM = {"meter": 1000.0, "micron": 0.001}
META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
SAMPLES_PER_PIXEL = 277
# How far JPEG decoders may differ.
JPEG_TOLERANCE = 6


class Read(NamedTuple):
    array: np.ndarray
    affine: np.ndarray | None
    n_axes: int = 3  # that the file has a place for
    apart: float = 0.01  # part of the smallest edge from which on places differ


class Segment(NamedTuple):
    """Voxels and their mean place, LPS mm."""

    volume_mm3: float
    centre: np.ndarray


def difference(ours: Read, theirs: Read, tolerance: float = 0.0) -> str | None:
    """In what two readings differ; None where they are one. Axes may be flipped and permuted."""
    a, b = (each.array.astype(np.float64) for each in (ours, theirs))
    if ours.affine is not None and theirs.affine is not None:
        n = min(ours.n_axes, theirs.n_axes)
        place = _place(ours.affine, theirs.affine, b.shape[1:], n, theirs.apart)
        if n == 3 and (place or a.shape != b.shape):
            (a, affine), (b, other) = (_canonical(array, read.affine) for array, read in ((a, ours), (b, theirs)))
            place = _place(affine, other, b.shape[1:], n, theirs.apart) if a.shape == b.shape else None
        if place:
            return place
    if a.shape != b.shape:
        return f"shape {a.shape} against {b.shape}"
    scale = np.nanmax(np.abs(b[np.isfinite(b)]), initial=0)
    if np.allclose(a, b, rtol=1e-5, atol=max(tolerance, 1e-6 * scale), equal_nan=True):
        return None
    different = int((~np.isclose(a, b, rtol=1e-5, atol=1e-6 * scale, equal_nan=True)).sum())
    return f"{different} of {a.size} voxels"


def _canonical(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(np.moveaxis(array, 0, -1), affine))
    return np.moveaxis(np.asarray(image.dataobj), -1, 0), image.affine


def _place(affine: np.ndarray, other: np.ndarray, shape: tuple[int, ...], n: int, part: float) -> str | None:
    corners = np.stack(np.meshgrid(*((0, size - 1) for size in shape), indexing="ij"), -1).reshape(-1, 3)
    apart = [corners @ each[:3, :3].T + each[:3, 3] for each in (affine, other)]
    distance = np.linalg.norm((apart[0] - apart[1])[:, :n], axis=1).max()
    allowed = part * np.linalg.norm(other[:3, :n], axis=0).min() + 1e-5 * np.abs(apart[1]).max()
    return None if distance <= allowed else f"corners lie {distance:.3g} mm apart"


def _of_sitk(image: sitk.Image) -> Read:
    n, spatial = image.GetDimension(), min(image.GetDimension(), 3)
    affine = np.eye(4)
    matrix = np.reshape(image.GetDirection(), (n, n)) * image.GetSpacing()
    affine[:spatial, :spatial] = matrix[:spatial, :spatial]
    affine[:spatial, 3] = image.GetOrigin()[:spatial]
    if not np.isfinite(affine).all():
        raise ValueError("no place")
    array = sitk.GetArrayFromImage(image).T
    if image.GetNumberOfComponentsPerPixel() == 1:
        array = array[None]
    if n == 4:
        array = np.moveaxis(array[0], -1, 0)
    return Read(array.reshape(*(*array.shape, 1)[:4]), LPS_TO_RAS @ affine, spatial)


def _by_sitk(reader: str) -> Callable[[Path], Read]:
    def read(path: Path) -> Read:
        return _of_sitk(sitk.ReadImage(str(path), imageIO=reader))

    return read


def _nifti_by_sitk(path: Path) -> Read:
    """ITK takes some of sform, qform and pixdim, medseg others: of that it speaks from a twentieth of a voxel on, below
    which grids are one (docs/architecture.md)."""
    return _by_sitk("NiftiImageIO")(path)._replace(apart=0.05)


def by_nibabel(path: Path) -> Read:
    image = nibabel.load(path)
    array = np.asanyarray(image.dataobj)
    units = image.header.get_xyzt_units()[0]
    affine = np.diag([MM.get(units, 1.0)] * 3 + [1.0]) @ image.affine
    array = array.reshape((*array.shape, 1, 1)[:4]) if array.ndim < 4 else array
    if array.ndim != 4:
        array = array.reshape(*array.shape[:3], *[n for n in array.shape[3:] if n > 1] or [1])
    return Read(np.moveaxis(array, -1, 0), affine, 2 if len(image.shape) == 2 else 3)


def by_pynrrd(path: Path) -> Read:
    array, header = nrrd.read(str(path))
    directions = np.asarray(header["space directions"], float)
    spatial = [i for i in range(array.ndim) if np.isfinite(directions[i]).all()]
    if len(spatial) not in (2, 3) or array.ndim - len(spatial) > 1:
        raise ValueError("another form")
    signs = {"left-posterior-superior": (-1, -1, 1), "right-anterior-superior": (1, 1, 1), "LPS": (-1, -1, 1)}
    affine = np.eye(4)
    affine[: directions.shape[1], : len(spatial)] = directions[spatial].T
    affine[: directions.shape[1], 3] = header["space origin"]
    affine = np.diag((*signs[header["space"]], 1)) @ affine
    array = np.moveaxis(array, spatial, range(len(spatial)))
    array = array[..., None] if array.ndim == len(spatial) else array
    return Read(np.moveaxis(array, -1, 0), affine)


def by_hand_mha(path: Path) -> Read:
    """MetaImage as its documentation has it; nothing but what is plain."""
    content = path.read_bytes()
    fields: dict[str, str] = {}
    at = 0
    while "ElementDataFile" not in fields:
        end = content.index(b"\n", at)
        name, _, value = content[at:end].decode("ascii").partition("=")
        fields[name.strip()] = value.strip()
        at = end + 1
    local = fields["ElementDataFile"] == "LOCAL"
    data = content[at:] if local else (path.parent / fields["ElementDataFile"]).read_bytes()
    if fields.get("CompressedData") == "True":
        data = zlib.decompress(data)
    big = "True" in (fields.get("BinaryDataByteOrderMSB"), fields.get("ElementByteOrderMSB"))
    dtype = np.dtype((">" if big else "<") + META_TYPES[fields["ElementType"]])
    shape = [int(n) for n in fields["DimSize"].split()]
    array = np.frombuffer(data, dtype)  # of exactly as many bytes
    array = array.reshape(shape, order="F")
    affine = np.eye(4)
    matrix = np.reshape([float(v) for v in fields.get("TransformMatrix", "1 0 0 0 1 0 0 0 1").split()], (3, 3)).T
    affine[:3, :3] = matrix * [float(v) for v in fields.get("ElementSpacing", "1 1 1").split()]
    affine[:3, 3] = [float(v) for v in fields.get("Offset", "0 0 0").split()]
    return Read(array[None], LPS_TO_RAS @ affine)


def by_pillow(path: Path) -> Read:
    with Image.open(path) as image:
        frames = []
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            frames.append(np.asarray(image).astype(float))
    array = np.stack(frames, -1)  # row, column, (channel,) page
    array = array[None] if array.ndim == 3 else np.moveaxis(array, 2, 0)
    return Read(_without_alpha(array).swapaxes(1, 2), None)


def _picture_by_sitk(path: Path) -> Read:
    read = _of_sitk(sitk.ReadImage(str(path)))
    return Read(_without_alpha(read.array), None)


def _tiff_by_sitk(path: Path) -> Read:
    """Of tiles, and of all else that it does not know, ITK makes RGBA of 8 bits, and warns of lost values."""
    with Image.open(path) as image:
        n_samples = image.tag_v2.get(SAMPLES_PER_PIXEL, 1)
    read = _of_sitk(sitk.ReadImage(str(path)))
    if len(read.array) == 4 != n_samples:
        raise ValueError("not the file's own samples")
    return Read(_without_alpha(read.array), None)


def _without_alpha(array: np.ndarray) -> np.ndarray:
    return array[: {2: 1, 4: 3}.get(len(array), len(array))]


def series_by_sitk(folder: Path) -> Read:
    reader = sitk.ImageSeriesReader()
    (series,) = reader.GetGDCMSeriesIDs(str(folder))
    names = reader.GetGDCMSeriesFileNames(str(folder), series)
    if len(names) < len(list(folder.iterdir())):  # it leaves out what it cannot read
        raise ValueError("not all files")
    reader.SetFileNames(names)
    return _of_sitk(reader.Execute())


def series_by_hand(folder: Path) -> Read:
    """Slices with pydicom; nothing but one even stack."""
    slices = [pydicom.dcmread(path) for path in folder.iterdir()]
    row, column = np.reshape(np.array(slices[0].ImageOrientationPatient, float), (2, 3))
    slices.sort(key=lambda each: float(np.cross(row, column) @ np.array(each.ImagePositionPatient, float)))
    places = np.array([each.ImagePositionPatient for each in slices], float)
    steps = np.diff(places, axis=0)
    same = ("ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "SeriesInstanceUID")
    if np.ptp(steps, axis=0).max() > 1e-3 or any(
        each[name].value != slices[0][name].value for each in slices for name in same
    ):
        raise ValueError("no even stack")
    arrays = [each.pixel_array * float(each.RescaleSlope) + float(each.RescaleIntercept) for each in slices]
    between_rows, between_columns = map(float, slices[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3] = np.stack([row * between_columns, column * between_rows, steps[0], places[0]], axis=1)
    return Read(np.stack(arrays).T[None], LPS_TO_RAS @ affine)


def enhanced_by_hand(folder: Path) -> Read:
    """Frames with pydicom; nothing but one even stack."""
    (path,) = folder.iterdir()
    header = pydicom.dcmread(path)
    shared = header.SharedFunctionalGroupsSequence[0]
    places = np.array(
        [f.PlanePositionSequence[0].ImagePositionPatient for f in header.PerFrameFunctionalGroupsSequence], float
    )
    row, column = np.reshape(np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float), (2, 3))
    order = np.argsort(places @ np.cross(row, column))
    steps = np.diff(places[order], axis=0)
    if np.ptp(steps, axis=0).max() > 1e-3 or len(places) != header.NumberOfFrames:
        raise ValueError("no even stack")
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    values = shared.PixelValueTransformationSequence[0]
    affine = np.eye(4)
    affine[:3] = np.stack([row * between_columns, column * between_rows, steps[0], places[order][0]], axis=1)
    array = header.pixel_array[order] * float(values.RescaleSlope) + float(values.RescaleIntercept)
    return Read(array.T[None], LPS_TO_RAS @ affine)


def archive_by_hand(folder: Path) -> Read:
    """Unpacked by zipfile or by tar, and read as a series."""
    (path,) = (file for file in folder.iterdir() if file.is_file())
    place = folder.parent / f"{folder.name} unpacked"
    place.mkdir()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(place)
    else:
        subprocess.run(["tar", "xf", path, "-C", place], check=True, capture_output=True)
    (inside,) = place.iterdir()
    return series_by_sitk(inside)


def seg_by_hand(path: Path) -> dict[int, Segment]:
    """Frame by frame with pydicom."""
    header = pydicom.dcmread(path)
    shared = header.SharedFunctionalGroupsSequence[0]
    row, column = np.reshape(np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float), (2, 3))
    measures = shared.PixelMeasuresSequence[0]
    between_rows, between_columns = map(float, measures.PixelSpacing)
    pixels = header.pixel_array
    if header.SegmentationType == "FRACTIONAL":
        pixels = pixels * 2 >= header.MaximumFractionalValue
    found: dict[int, list[np.ndarray]] = {}
    for frame, groups in zip(pixels, header.PerFrameFunctionalGroupsSequence, strict=True):
        place = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        own = groups.get("SegmentIdentificationSequence")
        numbers = [own[0].ReferencedSegmentNumber] if own else [int(v) for v in np.unique(frame) if v]
        for number in numbers:
            rows, columns = np.nonzero(frame == number if own is None else frame)
            points = place + columns[:, None] * between_columns * row + rows[:, None] * between_rows * column
            found.setdefault(number, []).append(points)
    area = between_rows * between_columns * float(measures.get("SpacingBetweenSlices", measures.SliceThickness))
    return {number: _segment(np.concatenate(points), area) for number, points in found.items()}


def seg_nrrd_by_pynrrd(path: Path) -> dict[int, Segment]:
    array, header = nrrd.read(str(path))
    directions = np.asarray(header["space directions"], float)
    spatial = [i for i in range(array.ndim) if np.isfinite(directions[i]).all()]
    array = np.moveaxis(array, spatial, range(1, 4)) if array.ndim == 4 else array[None]
    found = {}
    for i in range(len(array)):
        if f"Segment{i}_LabelValue" in header:
            mask = array[int(header[f"Segment{i}_Layer"])] == int(header[f"Segment{i}_LabelValue"])
            points = np.argwhere(mask) @ directions[spatial] + np.asarray(header["space origin"], float)
            found[i + 1] = _segment(points, abs(np.linalg.det(directions[spatial])))
    return found


def rtstruct_by_hand(path: Path) -> dict[int, Segment]:
    """Areas of the contours, one in the other taken away."""
    header = pydicom.dcmread(path)
    found = {}
    for number, roi in enumerate(header.ROIContourSequence, start=1):
        areas, centres = [], []
        for contour in roi.ContourSequence:
            corners = np.reshape(np.array(contour.ContourData, float), (-1, 3))
            x, y = corners[:, 0], corners[:, 1]
            if len(corners) != 4 or np.ptp(corners[:, 2]):
                raise ValueError("no rectangle any more")
            areas.append(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)
            centres.append(corners.mean(axis=0))
        found[number] = Segment(sum(areas) * 3.0, np.average(centres, axis=0, weights=areas))
    return found


def _segment(points: np.ndarray, voxel_mm3: float) -> Segment:
    return Segment(len(points) * voxel_mm3, points.mean(axis=0) if len(points) else np.zeros(3))


VOLUMES: dict[str, tuple[Callable[[Path], Read], ...]] = {
    "nifti": (_nifti_by_sitk, by_nibabel),
    "nrrd": (_by_sitk("NrrdImageIO"), by_pynrrd),
    "mha": (by_hand_mha, _by_sitk("MetaImageIO")),
    "mhd": (by_hand_mha, _by_sitk("MetaImageIO")),
    "png": (by_pillow, _picture_by_sitk),
    "tiff": (by_pillow, _tiff_by_sitk),
    "jpeg": (by_pillow, _picture_by_sitk),
    "dicom": (series_by_hand, series_by_sitk),
    "packed dicom": (series_by_hand, series_by_sitk),
    "enhanced dicom": (enhanced_by_hand,),
    "zip": (archive_by_hand,),
    "tar": (archive_by_hand,),
    "tar.gz": (archive_by_hand,),
    "dicomdir": (),
}
SEGMENTS: dict[str, Callable[[Path], dict[int, Segment]]] = {
    "seg": seg_by_hand, "seg.nrrd": seg_nrrd_by_pynrrd, "rtstruct": rtstruct_by_hand
}  # fmt: skip
