"""Classic DICOM series: found by their headers, ordered by position, read with pydicom."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, config, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.errors import InvalidDicomError
from pydicom.misc import is_dicom
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medseg.errors import GeometryError, Problem, SourceError
from medseg.io.dicom_geometry import NEEDED, Plane, in_order, plane_of, series_geometry
from medseg.io.folders import files_under, is_nifti, is_picture
from medseg.io.source import Found, ImageSource
from medseg.volume import Array, Geometry, Volume

KEYWORDS = (
    *NEEDED,
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Modality",
    "SpecificCharacterSet", "SeriesDescription", "ImageType", "NumberOfFrames", "SamplesPerPixel",
    "BitsStored", "SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept",
    "ModalityLUTSequence",
)  # fmt: skip
TAGS = [tag for tag in map(tag_for_keyword, KEYWORDS) if tag is not None]

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
# Lie beside DICOM files and are nobody's mistake.
COMPANIONS = ("dicomdir", "license", "licence", "readme", "copying", "version", "changelog", "notice")

# Modalities of objects that hold no image, or none of the patient.
NOT_IMAGES = {
    "SEG": "segmentations", "RTSTRUCT": "contours", "RTDOSE": "doses", "RTPLAN": "plans", "SR": "reports",
    "RTRECORD": "records", "PR": "presentation states", "KO": "key object selections",
    "REG": "registrations", "DOC": "documents", "FID": "fiducials",
}  # fmt: skip


@dataclass(frozen=True)
class _Header:
    path: Path
    dataset: Dataset

    def text(self, keyword: str) -> str:
        return str(self.dataset.get(keyword) or "").strip()


def find_series(path: Path) -> Found:
    """The image series under a folder, or the one that a file belongs to; only headers are read.

    Series are told apart by SeriesInstanceUID and by geometry, and their files ordered by position. Damaged
    files are problems; what is no image is left out with a note.
    """
    if path.is_dir():
        return series_among(files_under(path))
    found = series_among(sorted(file for file in path.parent.iterdir() if file.is_file()))
    problems = tuple(problem for problem in found.problems if problem.path == path)
    return Found(tuple(source for source in found.sources if path in source.files), problems, found.notes)


def series_among(files: Iterable[Path]) -> Found:
    """As ``find_series``, for files already listed; those that cannot be DICOM by name are not opened."""
    with config.disable_value_validation():  # odd values are common, and harmless in what is read here
        headers, problems = _headers(files)
        images, notes = _images_among(headers)
        sources = []
        for header_group in _by_series(images).values():
            series, more_problems = _series(header_group)
            sources += series
            problems += more_problems
    return Found(tuple(sorted(sources, key=lambda s: (s.path, s.files))), tuple(problems), tuple(notes))


def read_dicom(source: ImageSource) -> Volume:
    """Reads one series as ``(1, x = column, y = row, z = slice)``, with slope and intercept applied.

    Values stay integers where every slope and intercept is a whole number, else they are float64. Raises
    ``GeometryError`` when the slices make no even upright grid, ``SourceError`` for a file that cannot be
    decoded.
    """
    with config.disable_value_validation():
        slices = [_read_slice(path) for path in source.files]
        planes = [plane_of(header, path) for path, (header, _) in zip(source.files, slices, strict=True)]
        geometry = series_geometry(planes, source.path)
        stack = _rescaled(slices)
    return Volume(stack.T[None], geometry)


def dicom_geometry(source: ImageSource) -> Geometry:
    """The grid of a series, from its headers alone. Raises as ``read_dicom`` does."""
    return series_geometry(source_planes(source), source.path)


def source_planes(source: ImageSource) -> list[Plane]:
    """The slices of a series in order of position, from their headers alone; masks in DICOM are written on them.

    Raises ``SourceError`` for a file that is gone or damaged.
    """
    with config.disable_value_validation():
        planes = []
        for path in source.files:
            try:
                header = _read_header(path)
            except Exception as error:
                raise SourceError(f"{path}: cannot be read as DICOM ({_reason(error)})") from error
            planes.append(plane_of(header, path))
    return planes


def _headers(files: Iterable[Path]) -> tuple[list[_Header], list[Problem]]:
    """Of all DICOM files, and what claims to be one but isn't."""
    headers, failures = [], []
    for path in files:
        try:
            if _may_be_dicom(path):
                headers.append(_Header(path, _read_header(path)))
        except Exception as error:  # pydicom raises many kinds on damaged files; each becomes a problem
            failures.append((path, _reason(error)))
    folders = {header.path.parent for header in headers}
    problems = [
        Problem("", path, f"{path}: is not a DICOM file, or a damaged one ({reason}); left out")
        for path, reason in failures
        if path.suffix.lower() in DICOM_SUFFIXES or (_has_no_suffix(path) and path.parent in folders)
    ]
    return headers, problems


def _may_be_dicom(path: Path) -> bool:
    if path.name.lower().split(".")[0] in COMPANIONS or is_nifti(path) or is_picture(path):
        return False
    return path.suffix.lower() in DICOM_SUFFIXES or _has_no_suffix(path) or is_dicom(path)


def _has_no_suffix(path: Path) -> bool:
    """Also true for names that are UIDs, such as ``MR.1.2.840.113619``."""
    return path.suffix == "" or path.suffix[1:].isdigit()


def _read_header(path: Path) -> Dataset:
    """Raises ``InvalidDicomError``, and whatever pydicom raises on a damaged file."""
    with path.open("rb") as stream:
        start = stream.read(132)
        stream.seek(0)
        if not start:
            raise InvalidDicomError("the file is empty")
        # Without a preamble, a file that starts with a small tag of group 0002 or 0008 is worth a try.
        bare = start[128:] != b"DICM" and start[:2] in (b"\x02\x00", b"\x08\x00") and start[3:4] == b"\x00"
        header = dcmread(stream, stop_before_pixels=True, specific_tags=TAGS, force=bare)
    list(header)  # converts all values, so that none fails later
    if not header.get("SOPClassUID"):
        raise InvalidDicomError("it has no SOPClassUID")
    return header


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].split(". ")[0].rstrip(".") if text else type(error).__name__


def _images_among(headers: Sequence[_Header]) -> tuple[list[_Header], list[str]]:
    images = []
    left_out: dict[str, list[Path]] = defaultdict(list)
    for header in headers:
        reason = _no_image(header)
        if reason:
            left_out[reason].append(header.path)
        else:
            images.append(header)
    notes = []
    for reason, paths in left_out.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        notes.append(f"left out, {reason}: {paths[0]}{more}")
    return images, notes


def _no_image(header: _Header) -> str:
    """Why a DICOM object is not an image to segment; empty when it is one."""
    modality = header.text("Modality")
    if modality in NOT_IMAGES:
        return f"{modality} ({NOT_IMAGES[modality]}, no image)"
    if not header.dataset.get("Rows"):
        return f"{modality or 'an object'} without an image"
    if "LOCALIZER" in header.text("ImageType").upper():
        return "a localizer"
    if int(header.dataset.get("SamplesPerPixel") or 1) > 1:
        return f"a colour image ({modality})"
    return ""


def _by_series(images: Sequence[_Header]) -> dict[tuple[str, ...], list[_Header]]:
    groups = defaultdict(list)
    for header in images:
        key = tuple(header.text(name) for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"))
        groups[key].append(header)
    return groups


def _series(headers: Sequence[_Header]) -> tuple[list[ImageSource], list[Problem]]:
    """One source for each geometry in a series."""
    groups: list[list[tuple[_Header, Plane]]] = []
    unreadable: dict[str, list[_Header]] = defaultdict(list)
    for header in headers:
        reason = _unsupported(header)
        if reason:
            unreadable[reason].append(header)
            continue
        try:
            plane = plane_of(header.dataset, header.path)
        except GeometryError as error:
            unreadable[str(error).removeprefix(f"{header.path}: ")].append(header)
            continue
        for group in groups:
            if group[0][1].is_parallel_to(plane):
                group.append((header, plane))
                break
        else:
            groups.append([(header, plane)])
    problems = []
    for reason, bad in unreadable.items():
        count = f" (and {len(bad) - 1} more files of series '{_name(bad[0])}')" if len(bad) > 1 else ""
        problems.append(Problem("", bad[0].path, f"{bad[0].path}{count}: {reason}"))
    sources = [_source(group, len(groups)) for group in groups]
    return sources, problems


def _name(header: _Header) -> str:
    return header.text("SeriesDescription") or header.text("SeriesInstanceUID")


def _unsupported(header: _Header) -> str:
    """Why an image cannot be read as a slice; empty when it can."""
    sop_class = header.dataset.SOPClassUID.name
    n_frames = int(header.dataset.get("NumberOfFrames") or 1)
    if n_frames > 1 or "Enhanced" in sop_class:
        return (
            f"multi-frame DICOM ({sop_class}, {n_frames} frames) cannot be read yet; convert it, for "
            "instance with dcm2niix, and give the NIfTI file"
        )
    if "MOSAIC" in header.text("ImageType").upper():
        return "a Siemens mosaic (many slices in one image) cannot be read; convert it with dcm2niix"
    return ""


def _source(group: Sequence[tuple[_Header, Plane]], n_geometries: int) -> ImageSource:
    planes, duplicates = _without_duplicates(group)
    planes = in_order(planes)
    header = group[0][0]
    files = tuple(plane.path for plane in planes)
    notes = []
    if n_geometries > 1:
        notes.append(f"one of {n_geometries} geometries in series '{_name(header)}', each read as an image of its own")
    if duplicates:
        notes.append(f"{len(duplicates)} duplicates (same SOPInstanceUID) left out, such as {duplicates[0].name}")
    if len(planes) == 1:
        thickness = planes[0].thickness
        known = f"{thickness:g} mm, from its header" if thickness else "unknown, taken as 1 mm"
        notes.append(f"a single slice; its thickness is {known}")
    return ImageSource(
        kind="dicom",
        path=_common_folder(files),
        files=files,
        modality=header.text("Modality"),
        description=header.text("SeriesDescription"),
        series_uid=header.text("SeriesInstanceUID"),
        patient_id=header.text("PatientID"),
        study_uid=header.text("StudyInstanceUID"),
        notes=tuple(notes),
    )


def _without_duplicates(group: Sequence[tuple[_Header, Plane]]) -> tuple[list[Plane], list[Path]]:
    """Copies have the same SOPInstanceUID and position; some anonymisers give all slices the same UID."""
    seen = set()
    planes, duplicates = [], []
    for header, plane in group:
        key = (header.text("SOPInstanceUID"), *plane.position)
        if key[0] and key in seen:
            duplicates.append(plane.path)
            continue
        seen.add(key)
        planes.append(plane)
    return planes, duplicates


def _common_folder(files: Sequence[Path]) -> Path:
    parents = {file.parent for file in files}
    return parents.pop() if len(parents) == 1 else Path(os.path.commonpath(parents))


def _read_slice(path: Path) -> tuple[Dataset, Array]:
    """Header and stored values (rows, columns) of one file. Raises ``SourceError``."""
    try:
        header, stored = _decoded(path)
        list(header)  # converts all values, so that none fails later
    except Exception as error:  # pydicom raises many kinds on damaged files
        if isinstance(error, NotImplementedError) or "missing dependencies" in str(error):
            syntax = dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID.name
            raise SourceError(
                f"{path}: pixel data in transfer syntax '{syntax}' cannot be decoded; "
                "convert it, for instance with gdcmconv --raw, or export it uncompressed"
            ) from error
        raise SourceError(
            f"{path}: pixel data are missing, truncated or damaged ({_reason(error)}); export it again"
        ) from error
    return header, stored


def _decoded(path: Path) -> tuple[Dataset, Array]:
    header = Dataset()
    if is_dicom(path):
        return header, pixel_array(path, raw=True, ds_out=header, specific_tags=TAGS)
    # Without a preamble there is no transfer syntax either; pydicom has guessed it.
    header = dcmread(path, force=True)
    implicit = header.original_encoding[0]
    header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return header, pixel_array(header, raw=True)


def _rescaled(slices: list[tuple[Dataset, Array]]) -> Array:
    """Values (slice, row, column). Empties ``slices`` on the way, so that voxels are not held twice."""
    if any(header.get("ModalityLUTSequence") for header, _ in slices):
        raise SourceError(f"{slices[0][0].get('SeriesInstanceUID')}: values given by a lookup table cannot be read")
    scales = [(float(h.get("RescaleSlope") or 1), float(h.get("RescaleIntercept") or 0)) for h, _ in slices]
    identity = set(scales) == {(1.0, 0.0)}
    dtype = np.result_type(*(s.dtype for _, s in slices)) if identity else _rescaled_dtype(slices, scales)
    stack = np.empty((len(slices), *slices[0][1].shape), dtype=dtype)
    slices.reverse()
    for values, (slope, intercept) in zip(stack, scales, strict=True):
        stored = slices.pop()[1]
        if identity:
            values[:] = stored
        else:
            np.multiply(stored, dtype.type(slope), out=values, dtype=dtype, casting="unsafe")
            values += dtype.type(intercept)
    return stack


def _rescaled_dtype(slices: Sequence[tuple[Dataset, Array]], scales: Sequence[tuple[float, float]]) -> np.dtype:
    """The smallest integer type for all that the stored bits could give; float64 for fractional scales."""
    stored_as_float = any(stored.dtype.kind == "f" for _, stored in slices)
    if stored_as_float or any(value != round(value) for scale in scales for value in scale):
        return np.dtype(np.float64)
    ends = []
    for (header, stored), (slope, intercept) in zip(slices, scales, strict=True):
        bits = int(header.get("BitsStored") or stored.dtype.itemsize * 8)
        signed = stored.dtype.kind == "i"
        lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        ends += [slope, intercept, slope * lowest + intercept, slope * highest + intercept]
    for dtype in (np.int16, np.uint16, np.int32, np.int64):
        if np.iinfo(dtype).min <= min(ends) and max(ends) <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.float64)
