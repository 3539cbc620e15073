"""Which images and segmentations a folder holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medseg.errors import SourceError, shown, without_path
from medseg.io.archives import contents, is_archive, unpacked
from medseg.io.dicom.directory import is_dicomdir, listed_files
from medseg.io.dicom.series import find_series, series_among
from medseg.io.folders import is_itk, is_nifti, is_pair, is_picture, is_zarr
from medseg.io.nifti.pair import header_file, is_pair_header, voxels_beside
from medseg.io.nrrd.reader import data_files
from medseg.io.ome_zarr.metadata import store_of
from medseg.io.parts import may_be_part, volumes_of
from medseg.io.seg_nrrd.reader import holds_segments
from medseg.io.source import Found, ImageSource, Kind

BUNDLE = ".mrb"  # of 3D Slicer: an archive
DETACHED_SUFFIXES = (".mhd", ".nhdr")  # headers whose voxels lie in files beside them


def image_sources(path: Path) -> Found:
    """Finds every image and segmentation under a folder or in an archive, or the one that a path names.

    Images are NIfTI, Analyze, DICOM, NRRD, MetaImage, OME-Zarr and pictures; segmentations DICOM SEG, RTSTRUCT and
    ``.seg.nrrd``.
    Of a DICOMDIR those are found that it lists. Only headers of DICOM and NRRD are read.

    Args:
        path: A folder, an archive, or a file. It may go on inside of an archive (``study.zip/ct.nii.gz``), or to one
            volume of a series or file that holds several (``series/time-03``, ``scan.nii.gz/volume-2``).

    Returns:
        Images, segmentations, files that cannot be read, and notes on what was left out.

    Raises:
        SourceError: There is no such file or folder, or an archive cannot be unpacked.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from medseg.io import Geometry, image_sources, write_nifti
        >>> grid = Geometry((4, 5, 6), np.diag([-1.0, -1.0, 2.5, 1.0]))
        >>> Path("study").mkdir()
        >>> write_nifti("study/ct.nii.gz", np.zeros(grid.shape, np.int16), grid)
        >>> [source.path.name for source in image_sources(Path("study")).sources]
        ['ct.nii.gz']
    """
    if not path.exists():
        return _inside(path)
    if is_archive(path) and path.is_file():
        return image_sources(unpacked(path))
    if path.is_dir() and (store := store_of(path)) is not None:
        level = "" if store == path else path.relative_to(store).as_posix()
        return Found((ImageSource("ome_zarr", store, (store,), part=level),))
    path = header_file(path) or path
    if path.is_file() and not is_dicomdir(path):
        kind = _kind(path)
        return _alone({path: kind}) if kind else find_series(path)
    files, problems, notes = listed_files(path) if is_dicomdir(path) else contents(path)
    found = sources_among(files)
    return found._replace(
        problems=(*problems, *found.problems), notes=tuple(shown(note) for note in (*notes, *found.notes))
    )


def sources_among(files: Sequence[Path]) -> Found:
    """Finds the images and segmentations among files already listed, as ``image_sources`` does."""
    kinds = {file: kind for file in files if (kind := _kind(file))}
    parts = {part for file in kinds for part in _parts(file)}
    series = series_among(file for file in files if file not in kinds and file not in parts)
    alone = _alone(kinds)
    return series._replace(
        sources=tuple(sorted((*alone.sources, *series.sources), key=_place)),
        segmentations=tuple(sorted((*alone.segmentations, *series.segmentations), key=_place)),
    )


def source_of(path: Path) -> ImageSource:
    """Finds the one image or segmentation at a path.

    Args:
        path: A file; a folder with one DICOM series, one other image, or nothing but one segmentation; or a file of a
            DICOM series, which stands for the whole series in its folder.

    Raises:
        SourceError: There is none, or more than one.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from medseg.io import Geometry, source_of, write_nifti
        >>> grid = Geometry((4, 5, 6), np.diag([-1.0, -1.0, 2.5, 1.0]))
        >>> write_nifti("ct.nii.gz", np.zeros(grid.shape, np.int16), grid)
        >>> source_of(Path("ct.nii.gz")).kind
        'nifti'
    """
    found = image_sources(path)
    series = [source for source in found.sources if source.kind == "dicom"]
    candidates = series or found.sources or found.segmentations
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        listed = "; ".join(_described(source, path) for source in candidates[:6])
        more = f"; and {len(candidates) - 6} more" if len(candidates) > 6 else ""
        raise SourceError(f"{path}: holds {len(candidates)} images, name one of them: {listed}{more}")
    reasons = [problem.message for problem in found.problems] + list(found.notes)
    because = (
        without_path(reasons[0], path) if reasons else "no NIfTI, DICOM, NRRD, MetaImage, OME-Zarr, PNG, JPEG or TIFF"
    )
    raise SourceError(f"{path}: no image found ({because})")


def mask_source(path: Path) -> ImageSource:
    """Finds the one mask at a path, as ``source_of`` does.

    Of a bundle of 3D Slicer (.mrb), which holds the image too, it is the only segmentation, or the one named
    ``prediction``.

    Raises:
        SourceError: There is none, or more than one.
    """
    if not (path.suffix.lower() == BUNDLE and path.is_file()):
        return source_of(path)
    masks = image_sources(path).segmentations
    named = [mask for mask in masks if mask.path.name.startswith("prediction.")]
    if len(masks) != 1 and len(named) != 1:
        listed = "; ".join(str(mask.path) for mask in masks) or "none"
        raise SourceError(f"{path}: holds {len(masks)} segmentations, name one of them: {listed}")
    return (named or list(masks))[0]


def located(path: Path) -> Path:
    """Returns where something lies that a path names in an archive: in the folder that it is unpacked to.

    Other paths are returned as they are.

    Raises:
        SourceError: The archive cannot be unpacked.
    """
    holder = existing(path)
    if holder != path and holder.is_file() and is_archive(holder):
        return located(unpacked(holder) / path.relative_to(holder))
    return path


def existing(path: Path) -> Path:
    """Returns the path itself, or the part of it that exists."""
    return next((each for each in (path, *path.parents) if each.exists()), path)


def _inside(path: Path) -> Found:
    """Finds what a path names that doesn't exist as a file: what lies in an archive, or one volume of several."""
    place = located(path)
    if place.exists():
        return image_sources(place)
    holder = place.parent
    if not holder.exists() or not may_be_part(place.name):
        raise SourceError(f"{path}: there is no such file or folder")
    sources = image_sources(holder).sources
    volumes = [volume for source in sources for volume in (volumes_of(source) or [source])]
    found = tuple(volume for volume in volumes if volume.part == place.name)
    if not found:
        names = ", ".join(volume.part for volume in volumes if volume.part) or "a single one"
        raise SourceError(f"{path}: there is no such volume; {holder} holds {names}")
    return Found(found)


def _kind(file: Path) -> Kind | None:
    """Returns the kind of a file that holds a whole image or segmentation; None for what may be DICOM, or nothing to
    us."""
    if is_nifti(file):
        return "nifti"
    if is_pair_header(file):
        return "pair"
    if is_picture(file):
        return "image2d"
    if is_zarr(file) and file.is_dir():
        return "ome_zarr"
    if is_itk(file):
        return "seg_nrrd" if holds_segments(file) else "itk"
    return None


def _parts(file: Path) -> set[Path]:
    """Returns the files that hold the voxels of a header."""
    if is_pair(file):
        return {beside} if (beside := voxels_beside(file)) else set()
    return data_files(file) if file.suffix.lower() in DETACHED_SUFFIXES else set()


def _alone(kinds: Mapping[Path, Kind]) -> Found:
    """Returns files that hold a whole image or segmentation each; a pair is two files."""
    sources = [
        ImageSource(kind, file, (file, *(_parts(file) if kind == "pair" else ()))) for file, kind in kinds.items()
    ]
    images = tuple(source for source in sources if source.kind != "seg_nrrd")
    return Found(images, segmentations=tuple(source for source in sources if source.kind == "seg_nrrd"))


def _place(source: ImageSource) -> tuple[Path, tuple[Path, ...], tuple[int, ...]]:
    return source.path, source.files, source.frames


def _described(source: ImageSource, below: Path) -> str:
    path = source.path.relative_to(below) if source.path.is_relative_to(below) else source.path
    if source.kind != "dicom":
        return str(path)
    slices = f"{len(source.files)} slices, such as {source.files[0].name}"
    return f"{path / source.part} ({source.modality} '{source.description}', {slices})"
