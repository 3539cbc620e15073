"""DICOM images: series found by their headers, split into volumes, ordered by position, read with pydicom."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path

import numpy as np
from pydicom import Dataset, config, dcmread
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medseg.errors import GeometryError, Problem, SourceError, reason_of
from medseg.io.dicom.content import derived_kind, no_image
from medseg.io.dicom.frames import frame_headers, frame_values
from medseg.io.dicom.geometry import Plane, in_order, plane_of
from medseg.io.dicom.header import PIXEL_TAGS, Header, grouped_by_series, read_header, read_headers
from medseg.io.dicom.objects import segmentation_source
from medseg.io.dicom.stack import stack_of
from medseg.io.dicom.volumes import Slice, positions_of, split_into_volumes
from medseg.io.folders import files_under
from medseg.io.source import Found, ImageSource
from medseg.volume import Array, Geometry, Volume

Stored = tuple[Dataset, Array]  # header and stored values (row, column) of a slice


def find_series(path: Path) -> Found:
    """The image series and segmentations under a folder, or those that a file belongs to; only headers are read.

    Series are told apart by SeriesInstanceUID, by geometry, and by what distinguishes their volumes (echo, b-value,
    time). Damaged files are problems; what is no image is left out with a note.
    """
    if path.is_dir():
        return series_among(files_under(path))
    found = series_among(sorted(file for file in path.parent.iterdir() if file.is_file()))
    return Found(
        tuple(source for source in found.sources if path in source.files),
        tuple(problem for problem in found.problems if problem.path == path),
        found.notes,
        tuple(source for source in found.segmentations if path in source.files),
    )


def series_among(files: Iterable[Path]) -> Found:
    """As ``find_series``, for files already listed; those that cannot be DICOM by name are not opened."""
    with config.disable_value_validation():  # odd values are common, and harmless in what is read here
        headers, problems = read_headers(files)
        segmentations = [segmentation_source(header.dataset, header.path) for header in headers]
        others = [header for header, found in zip(headers, segmentations, strict=True) if found is None]
        images, notes = _images_among(others)
        volumes: list[list[ImageSource]] = []  # of each series
        for series in grouped_by_series(images):
            found, more_problems = _sources(series)
            volumes += [list(found)] if found else []
            problems += more_problems
    volumes.sort(key=_first_file)
    return Found(
        tuple(chain.from_iterable(volumes)),
        tuple(problems),
        tuple(notes),
        tuple(sorted((s for s in segmentations if s is not None), key=lambda s: s.path)),
    )


def read_dicom(source: ImageSource) -> Volume:
    """Reads one volume as ``(1, x = column, y = row, z = slice)``, with slope and intercept applied.

    Values stay integers where every slope and intercept is a whole number, else they are float64. Slices of a tilted
    gantry or with uneven distances are resampled (``stack`` has the rules). Raises ``GeometryError`` when the
    slices make no grid, ``SourceError`` for a file that cannot be decoded.
    """
    with config.disable_value_validation():
        slices = _read_slices(source)
        planes = [
            plane_of(header, path, frame)
            for (header, _), path, frame in zip(slices, source.files, _frames(source), strict=True)
        ]
        stack = stack_of(planes, source.path)
        values = stack.resampled(_rescaled(slices))
    return Volume(values.T[None], stack.geometry)


def dicom_geometry(source: ImageSource) -> Geometry:
    """The grid that ``read_dicom`` gives, from headers alone. Raises as it does."""
    return stack_of(source_planes(source), source.path).geometry


def source_planes(source: ImageSource) -> list[Plane]:
    """The slices of a volume in order of position, from their headers alone; masks in DICOM are written on them.

    Raises ``SourceError`` for a file that is gone or damaged.
    """
    headers: dict[Path, list[Dataset]] = {}
    with config.disable_value_validation():
        for path in source.files:
            if path in headers:
                continue
            try:
                headers[path] = frame_headers(read_header(path), path)
            except Exception as error:
                raise SourceError(f"{path}: cannot be read as DICOM ({reason_of(error)})") from error
        return [
            plane_of(headers[path][frame or 0], path, frame)
            for path, frame in zip(source.files, _frames(source), strict=True)
        ]


def _first_file(volumes: list[ImageSource]) -> tuple[Path, tuple[Path, ...]]:
    return volumes[0].path, volumes[0].files


def _frames(source: ImageSource) -> Sequence[int | None]:
    return source.frames or [None] * len(source.files)


def _images_among(headers: Sequence[Header]) -> tuple[list[Header], list[str]]:
    images = []
    left_out: dict[str, list[Path]] = defaultdict(list)
    for header in headers:
        reason = no_image(header)
        if reason:
            left_out[reason].append(header.path)
        else:
            images.append(header)
    notes = []
    for reason, paths in left_out.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        notes.append(f"left out, {reason}: {paths[0]}{more}")
    return images, notes


def _sources(headers: Sequence[Header]) -> tuple[list[ImageSource], list[Problem]]:
    """The volumes of one series: one for each geometry, and for each echo, time, … in it."""
    slices, unreadable = _slices_of(headers)
    slices, n_copies = _without_copies(slices)
    problems = []
    for reason, bad in unreadable.items():
        count = f" (and {len(bad) - 1} more files of series '{bad[0].series_name}')" if len(bad) > 1 else ""
        problems.append(Problem("", bad[0].path, f"{bad[0].path}{count}: {reason}"))
    geometries = _by_geometry(slices)
    sources = []
    for group in geometries:
        group, n_repeated = _without_repeated(group)
        for part, volume in split_into_volumes(group):
            notes = _notes(headers[0], len(geometries), n_copies, n_repeated)
            sources.append(_source(headers[0], part, volume, notes))
    return sources, problems


def _slices_of(headers: Sequence[Header]) -> tuple[list[Slice], dict[str, list[Header]]]:
    """All slices of the files, and the files that have none that can be read, by reason."""
    slices: list[Slice] = []
    unreadable: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        try:
            frames = frame_headers(header.dataset, header.path)
            several = len(frames) > 1
            slices += [
                Slice(each, plane_of(each, header.path, i if several else None)) for i, each in enumerate(frames)
            ]
        except (GeometryError, SourceError) as error:
            unreadable[str(error).removeprefix(f"{header.path}: ")].append(header)
    return slices, unreadable


def _without_copies(slices: Sequence[Slice]) -> tuple[list[Slice], int]:
    """Copies have the same SOPInstanceUID and position; some anonymisers give all slices the same UID."""
    seen = set()
    kept = []
    for slice_ in slices:
        key = (str(slice_.header.get("SOPInstanceUID") or ""), slice_.plane.frame, *slice_.plane.position)
        if key[0] and key in seen:
            continue
        seen.add(key)
        kept.append(slice_)
    return kept, len(slices) - len(kept)


def _by_geometry(slices: Sequence[Slice]) -> list[list[Slice]]:
    groups: list[list[Slice]] = []
    for slice_ in slices:
        for group in groups:
            if group[0].plane.is_parallel_to(slice_.plane):
                group.append(slice_)
                break
        else:
            groups.append([slice_])
    return groups


def _without_repeated(slices: Sequence[Slice]) -> tuple[list[Slice], int]:
    """Without slices that another one repeats pixel by pixel, where only some positions have several.

    Where all positions have several, they are volumes of their own, equal pixels or not.
    """
    at = positions_of(slices)
    counts = Counter(at)
    if min(counts.values()) == max(counts.values()):
        return list(slices), 0
    kept: list[Slice] = []
    seen: dict[int, list[Array]] = defaultdict(list)
    for position, slice_ in zip(at, slices, strict=True):
        if counts[position] > 1 and (pixels := _read_frame(slice_.plane)) is not None:
            if any(np.array_equal(pixels, other) for other in seen[position]):
                continue
            seen[position].append(pixels)
        kept.append(slice_)
    return kept, len(slices) - len(kept)


def _read_frame(plane: Plane) -> Array | None:
    """None for damaged pixels: reading the series tells of them, and the search for others goes on."""
    source = ImageSource("dicom", plane.path, (plane.path,), () if plane.frame is None else (plane.frame,))
    try:
        return _read_slices(source)[0][1]
    except SourceError:
        return None


def _notes(header: Header, n_geometries: int, n_copies: int, n_repeated: int) -> list[str]:
    notes = []
    if n_geometries > 1:
        notes.append(f"one of {n_geometries} geometries in series '{header.series_name}', each an image of its own")
    if n_copies:
        notes.append(f"{n_copies} duplicate slices (same SOPInstanceUID) are left out")
    if n_repeated:
        notes.append(f"{n_repeated} slices that repeat another one pixel by pixel are left out")
    return notes


def _source(header: Header, part: str, slices: Sequence[Slice], notes: Sequence[str]) -> ImageSource:
    planes = in_order([slice_.plane for slice_ in slices])
    files = tuple(plane.path for plane in planes)
    first = planes[0]
    in_frames = any(plane.frame is not None for plane in planes)
    return ImageSource(
        kind="dicom",
        path=_common_folder(files),
        files=files,
        frames=tuple(plane.frame or 0 for plane in planes) if in_frames else (),
        part=part,
        modality=header.text("Modality"),
        description=header.text("SeriesDescription"),
        derived=derived_kind(slices[0].header),
        series_uid=header.text("SeriesInstanceUID"),
        patient_id=header.text("PatientID"),
        study_uid=header.text("StudyInstanceUID"),
        frame_of_reference_uid=header.text("FrameOfReferenceUID"),
        notes=(*notes, *_grid_notes(planes, first.path)),
    )


def _grid_notes(planes: Sequence[Plane], where: Path) -> tuple[str, ...]:
    if len(planes) == 1:
        thickness = planes[0].thickness
        known = f"{thickness:g} mm, from its header" if thickness else "unknown, taken as 1 mm"
        return (f"a single slice; its thickness is {known}",)
    try:
        return stack_of(planes, where).notes
    except GeometryError:
        return ()  # reading says why


def _common_folder(files: Sequence[Path]) -> Path:
    parents = {file.parent for file in files}
    return parents.pop() if len(parents) == 1 else Path(os.path.commonpath(parents))


def _read_slices(source: ImageSource) -> list[Stored]:
    """Header and stored values of each slice. Raises ``SourceError``."""
    wanted: dict[Path, list[int | None]] = defaultdict(list)
    for path, frame in zip(source.files, _frames(source), strict=True):
        wanted[path].append(frame)
    read: dict[tuple[Path, int | None], Stored] = {}
    for path, frames in wanted.items():
        for frame, stored in zip(frames, _read_file(path, frames), strict=True):
            read[path, frame] = stored
    return [read[key] for key in zip(source.files, _frames(source), strict=True)]


def _read_file(path: Path, frames: Sequence[int | None]) -> list[Stored]:
    try:
        header, stored = _decoded(path)
        values = frame_values(stored, header, path)
        headers = frame_headers(header, path)
        if len(values) != len(headers):
            raise ValueError(f"{len(values)} frames of pixels and {len(headers)} of headers")
    except SourceError:
        raise
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise _undecodable(path, error) from error
    return [(headers[frame or 0], values[frame or 0]) for frame in frames]


def _undecodable(path: Path, error: Exception) -> SourceError:
    if isinstance(error, NotImplementedError) or "missing dependencies" in str(error):
        syntax = dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID.name
        return SourceError(
            f"{path}: pixel data in transfer syntax '{syntax}' cannot be decoded; "
            "convert it, for instance with gdcmconv --raw, or export it uncompressed"
        )
    return SourceError(f"{path}: pixel data are missing, truncated or damaged ({reason_of(error)}); export it again")


def _decoded(path: Path) -> Stored:
    data = path.read_bytes()
    header = dcmread(BytesIO(data), specific_tags=PIXEL_TAGS, force=data[128:132] != b"DICM")
    if "TransferSyntaxUID" not in header.file_meta:
        # Without a preamble there is no transfer syntax either; pydicom has guessed it.
        implicit = header.original_encoding[0]
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    bits = int(header.get("BitsAllocated") or 0)
    # Values that need no shifting or unpacking need no copy either: they are copied into the volume.
    stored = pixel_array(header, raw=True, view_only=bits > 8 and bits == header.get("BitsStored"))
    header.pop("PixelData", None)  # as large as what was decoded from it
    return header, stored


def _rescaled(slices: list[Stored]) -> Array:
    """Values (slice, row, column). Empties ``slices`` on the way, so that voxels are not held twice."""
    if any(header.get("ModalityLUTSequence") for header, _ in slices):
        return np.stack([apply_modality_lut(stored, header) for header, stored in slices])
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


def _rescaled_dtype(slices: Sequence[Stored], scales: Sequence[tuple[float, float]]) -> np.dtype:
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
