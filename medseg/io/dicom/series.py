"""DICOM images: series found by their headers, split into volumes, ordered by position, read with pydicom."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from pydicom import config

from medseg.errors import GeometryError, MedsegError, Problem, SourceError, reading
from medseg.io.dicom.duplicates import digest_of, without_copies, without_repeated
from medseg.io.dicom.files import read_header, read_headers
from medseg.io.dicom.frames import frame_headers
from medseg.io.dicom.geometry import SlicePlane, plane_of, planes_in_order
from medseg.io.dicom.header import FileHeader, Header
from medseg.io.dicom.mosaic import is_mosaic, values_of_tiles
from medseg.io.dicom.object_kind import derived_kind, no_image
from medseg.io.dicom.pixels import check_pixels, read_frames
from medseg.io.dicom.projection import is_negative, is_projection, projection_notes, turned_over
from medseg.io.dicom.rescale import Stored, rescaled, scale_of
from medseg.io.dicom.segmentation_objects import segmentation_source
from medseg.io.dicom.slice_series import series_of
from medseg.io.dicom.stack import stack_of
from medseg.io.dicom.volumes import Slice, split_into_volumes
from medseg.io.folders import files_under
from medseg.io.source import Found, ImageSource
from medseg.progress import listed
from medseg.volume import Array, Geometry, Volume


def find_series(path: Path) -> Found:
    """Finds the image series and segmentations under a folder, or those that a file belongs to.

    Only headers are read. Series are told apart by SeriesInstanceUID, by geometry, and by what distinguishes their
    volumes (echo, b-value, time). Damaged files are problems; what is no image is left out with a note.
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
    """Finds the series among listed files, as ``find_series``; what cannot be DICOM by name is not opened."""
    with config.disable_value_validation():  # odd values are common, and harmless in what is read here
        headers, problems = read_headers(files)
        segmentations: list[ImageSource] = []
        images: dict[str, list[FileHeader]] = defaultdict(list)  # by SeriesInstanceUID
        left_out: dict[str, list[Path]] = defaultdict(list)
        for header in headers:
            try:
                segmentation, reason = segmentation_source(header), no_image(header)
                if segmentation is not None:
                    segmentations.append(segmentation)
                elif reason:
                    left_out[reason].append(header.path)
                else:
                    images[header.text("SeriesInstanceUID")].append(header)
            except SourceError as error:
                problems.append(Problem("", header.path, f"{error}; left out"))
        volumes: list[list[ImageSource]] = []  # of each series
        for of_uid in images.values():
            found, more_problems = _sources(of_uid)
            volumes += found
            problems += more_problems
    volumes.sort(key=_first_file)
    notes = tuple(_left_out(reason, paths) for reason, paths in left_out.items())
    segmentations.sort(key=lambda source: source.path)
    return Found(tuple(chain.from_iterable(volumes)), tuple(problems), notes, tuple(segmentations))


def read_dicom(source: ImageSource) -> Volume:
    """Reads one DICOM volume, with slope and intercept applied.

    Values stay integers where every slope and intercept is a whole number, else they are float64. Slices of a tilted
    gantry or with uneven distances are resampled (``stack`` has the rules).

    Args:
        source: What ``find_series`` found.

    Returns:
        Voxels ``(1, x = column, y = row, z = slice)`` and their grid, in RAS mm.

    Raises:
        GeometryError: The slices make no grid.
        SourceError: A file cannot be decoded.
    """
    with config.disable_value_validation():
        files = _files(source)
        headers = _headers(source, files)
        stack = stack_of([plane_of(header) for header in headers], source.path)
        values = stack.resampled(rescaled(_stored(headers, files)))
    return Volume(values.T[None], stack.geometry)


def dicom_geometry(source: ImageSource) -> Geometry:
    """Reads the grid that ``read_dicom`` gives, from headers alone. It raises as that does, but for damaged pixels."""
    with config.disable_value_validation():
        return stack_of(_planes(source), source.path).geometry


def source_planes(source: ImageSource) -> list[SlicePlane]:
    """Reads the slices of a volume in order of position, from their headers alone; DICOM masks are written on them.

    Raises:
        SourceError: A file is gone or damaged.
        GeometryError: It is an X-ray projection.
    """
    with config.disable_value_validation():
        planes = _planes(source)
    if planes[0].is_projection:
        raise GeometryError(
            f"{source.path}: an X-ray projection has no place in the patient, so masks in DICOM cannot lie on it; "
            "choose nifti or seg-nrrd"
        )
    return planes


def _first_file(volumes: list[ImageSource]) -> tuple[Path, tuple[Path, ...]]:
    return volumes[0].path, volumes[0].files


def _left_out(reason: str, paths: Sequence[Path]) -> str:
    return f"left out, {reason}: {listed(paths, 1)}"


def _sources(headers: Sequence[FileHeader]) -> tuple[list[list[ImageSource]], list[Problem]]:
    """Returns the volumes of each series with one SeriesInstanceUID: one a geometry, and one an echo, time, … in it."""
    slices, unreadable = _slices_of(headers)
    problems = []
    for reason, bad in unreadable.items():
        name = bad[0].text("SeriesDescription") or bad[0].text("SeriesInstanceUID")
        count = f" (and {len(bad) - 1} more files of series '{name}')" if len(bad) > 1 else ""
        problems.append(Problem("", bad[0].path, f"{bad[0].path}{count}: {reason}"))
    volumes = []
    for series in series_of(slices) if slices else ():
        distinct = without_copies(series.slices, _digest)
        volumes.append(list(_volumes(distinct.slices, [*series.notes, *distinct.notes])))
    return volumes, problems


def _volumes(slices: Sequence[Slice], notes: Sequence[str]) -> Iterator[ImageSource]:
    geometries = _by_geometry(slices)
    several = len(geometries) > 1
    for i, group in enumerate(geometries, start=1):
        if group[0].plane.is_projection:
            yield _source(f"image-{i}" if several else "", group, [*notes, *projection_notes(group[0].header)])
            continue
        name = slices[0].header.text("SeriesDescription") or slices[0].header.text("SeriesInstanceUID")
        of_several = f"one of {len(geometries)} geometries in series '{name}', each an image of its own"
        distinct = without_repeated(group, _digest)
        for part, volume in split_into_volumes(distinct.slices):
            yield _source(part, volume, [*([of_several] if several else ()), *notes, *distinct.notes])


def _slices_of(headers: Sequence[FileHeader]) -> tuple[list[Slice], dict[str, list[FileHeader]]]:
    """Returns all slices of the files, and the files that have none that can be read, by reason."""
    slices: list[Slice] = []
    unreadable: dict[str, list[FileHeader]] = defaultdict(list)
    for header in headers:
        try:
            of_file = [Slice(each, plane_of(each)) for each in frame_headers(header)]
            for slice_ in of_file:
                scale_of(slice_.header)
                slice_.header.text("SOPInstanceUID")
            slices += of_file
        except (GeometryError, SourceError) as error:
            unreadable[str(error).removeprefix(f"{header.path}: ")].append(header)
    return slices, unreadable


def _by_geometry(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Returns the slices of each grid; each projection is alone."""
    groups: list[list[Slice]] = []
    for slice_ in slices:
        plane = slice_.plane
        fitting = (group for group in groups if not plane.is_projection and group[0].plane.is_parallel_to(plane))
        group = next(fitting, None)
        if group is None:
            groups.append(group := [])
        group.append(slice_)
    return groups


def _digest(header: Header) -> bytes | None:
    """Returns None for damaged pixels: reading the series tells of them, and the search for others goes on."""
    try:
        ((_, stored),) = _stored([header], {header.path: _file(header.path)})
        return digest_of(stored.tobytes(), stored.shape)
    except MedsegError:
        return None


def _source(part: str, slices: Sequence[Slice], notes: Sequence[str]) -> ImageSource:
    header = slices[0].header
    planes = planes_in_order([slice_.plane for slice_ in slices])
    files = tuple(plane.path for plane in planes)
    in_frames = any(plane.frame is not None for plane in planes)
    return ImageSource(
        kind="dicom",
        path=_common_folder(files),
        files=files,
        frames=tuple(plane.frame or 0 for plane in planes) if in_frames else (),
        part=part,
        modality=header.text("Modality"),
        description=header.text("SeriesDescription"),
        derived=derived_kind(header),
        series_uid=header.text("SeriesInstanceUID"),
        patient_id=header.text("PatientID"),
        study_uid=header.text("StudyInstanceUID"),
        frame_of_reference_uid=header.text("FrameOfReferenceUID"),
        notes=(*notes, *_class_notes(slices), *_grid_notes(planes)),
    )


def _class_notes(slices: Sequence[Slice]) -> Iterator[str]:
    header = slices[0].header
    if is_negative(header) and not slices[0].plane.is_projection:
        yield "low values are bright (MONOCHROME1): they are kept as they are stored, other programs turn them over"
    n_without = len({slice_.plane.path for slice_ in slices if "SOPClassUID" not in slice_.header})
    if n_without:
        yield f"{n_without} files have no SOPClassUID: they are read as {header.text('Modality') or 'images'}"


def _grid_notes(planes: Sequence[SlicePlane]) -> tuple[str, ...]:
    if planes[0].is_projection:
        return ()
    if len(planes) == 1:
        thickness = planes[0].thickness
        known = f"{thickness:g} mm, from its header" if thickness else "unknown, taken as 1 mm"
        return (f"a single slice; its thickness is {known}",)
    try:
        return stack_of(planes, planes[0].path).notes
    except GeometryError:
        return ()  # reading says why


def _common_folder(files: Sequence[Path]) -> Path:
    parents = {file.parent for file in files}
    return parents.pop() if len(parents) == 1 else Path(os.path.commonpath(parents))


def _planes(source: ImageSource) -> list[SlicePlane]:
    return [plane_of(header) for header in _headers(source, _files(source))]


def _files(source: ImageSource) -> dict[Path, FileHeader]:
    """Reads the header of each file. Raises ``SourceError``, also for files that are cut short."""
    files = {path: _file(path) for path in dict.fromkeys(source.files)}
    for file in files.values():
        check_pixels(file)
    return files


def _file(path: Path) -> FileHeader:
    with reading(path, "DICOM"):
        return read_header(path)


def _headers(source: ImageSource, files: Mapping[Path, FileHeader]) -> list[Header]:
    """Returns the header of each slice, in the order of the source."""
    headers = {path: frame_headers(file) for path, file in files.items()}
    frames = source.frames or [0] * len(source.files)
    if any(frame >= len(headers[path]) for path, frame in zip(source.files, frames, strict=True)):
        raise SourceError(f"{source.path}: has fewer slices than when it was found; has it changed?")
    return [headers[path][frame] for path, frame in zip(source.files, frames, strict=True)]


def _stored(headers: Sequence[Header], files: Mapping[Path, FileHeader]) -> list[Stored]:
    """Returns each header with its pixels; no other frames of a file are decoded."""
    wanted: dict[Path, list[int]] = defaultdict(list)
    for header in headers:
        wanted[header.path].append(header.frame or 0)
    read: dict[tuple[Path, int], Array] = {}
    for path, frames in wanted.items():
        if is_mosaic(files[path]):
            (mosaic,) = read_frames(files[path], [0])
            tiles = values_of_tiles(mosaic, len(frame_headers(files[path])))
            read.update({(path, frame): tiles[frame] for frame in frames})
        else:
            stored = read_frames(files[path], frames)
            if is_projection(files[path]) and is_negative(files[path]):
                stored = [turned_over(values, files[path]) for values in stored]
            read.update({(path, frame): values for frame, values in zip(frames, stored, strict=True)})
    return [(header, read[header.path, header.frame or 0]) for header in headers]
